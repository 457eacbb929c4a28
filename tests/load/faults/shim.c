/* Between a process and its C library: files below $FAULT_BELOW fail as $FAULT says, which may be
 * set while the process runs. Words, separated by blanks:
 *   nfs           the file system is a network's
 *   eio=N         reading byte N, or what comes after it, fails with EIO
 *   short=N       a read gives N bytes at most
 *   eintr=N       every N-th read is interrupted by a signal
 *   enospc=N      writing byte N, or what comes after it, fails with ENOSPC
 *   populate      populating a mapping fails, as it does where the disk does not give a page
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statfs.h>
#include <sys/uio.h>
#include <unistd.h>

#define NFS_SUPER_MAGIC 0x6969
#define POPULATE_READ 22

/* How often something failed as told: a test whose fault never bites proves nothing. */
static long long bites;
long long fault_bites(void) { return __atomic_load_n(&bites, __ATOMIC_RELAXED); }
static void bite(void) { __atomic_add_fetch(&bites, 1, __ATOMIC_RELAXED); }

static int concerned(int fd) {
    const char *below = getenv("FAULT_BELOW");
    char link[64], path[4096];
    if (below == NULL || getenv("FAULT") == NULL) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strncmp(path, below, strlen(below)) == 0;
}

static long long told(const char *word) {
    const char *all = getenv("FAULT"), *found = all ? strstr(all, word) : NULL;
    if (found == NULL) return -1;
    found += strlen(word);
    return *found == '=' ? atoll(found + 1) : 0;
}

/* How many of `count` bytes at `offset` are given; -1 with errno for a failure. */
static ssize_t allowed(int fd, size_t count, off_t offset) {
    static long long reads;
    if (!concerned(fd)) return (ssize_t)count;
    long long eintr = told("eintr"), eio = told("eio"), most = told("short");
    if (eintr > 0 && __atomic_add_fetch(&reads, 1, __ATOMIC_RELAXED) % eintr == 0) {
        bite();
        errno = EINTR;
        return -1;
    }
    if (eio >= 0 && offset + (long long)count > eio) {
        bite();
        if (offset >= eio) {
            errno = EIO;
            return -1;
        }
        count = (size_t)(eio - offset);
    }
    if (most > 0 && (long long)count > most) {
        bite();
        count = (size_t)most;
    }
    return (ssize_t)count;
}

static size_t total(const struct iovec *parts, int n) {
    size_t sum = 0;
    for (int i = 0; i < n; i++) sum += parts[i].iov_len;
    return sum;
}

static void *next(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (found == NULL) abort();
    return found;
}

#define PREAD(NAME)                                                                        \
    ssize_t NAME(int fd, void *into, size_t count, off_t offset) {                         \
        static ssize_t (*real)(int, void *, size_t, off_t);                                \
        if (real == NULL) real = next(#NAME);                                              \
        ssize_t may = allowed(fd, count, offset);                                          \
        return may < 0 ? may : real(fd, into, (size_t)may, offset);                        \
    }
PREAD(pread)
PREAD(pread64)

/* Only what one part can hold is cut: this is how Python reads. */
#define PREADV(NAME)                                                                       \
    ssize_t NAME(int fd, const struct iovec *parts, int n, off_t offset) {                 \
        static ssize_t (*real)(int, const struct iovec *, int, off_t);                     \
        if (real == NULL) real = next(#NAME);                                              \
        ssize_t may = allowed(fd, total(parts, n), offset);                                \
        if (may < 0) return may;                                                           \
        if (n != 1) return real(fd, parts, n, offset);                                     \
        struct iovec one = {parts[0].iov_base, (size_t)may};                               \
        return real(fd, &one, 1, offset);                                                  \
    }
PREADV(preadv)
PREADV(preadv64)

#define PREADV2(NAME)                                                                      \
    ssize_t NAME(int fd, const struct iovec *parts, int n, off_t offset, int flags) {      \
        static ssize_t (*real)(int, const struct iovec *, int, off_t, int);                \
        if (real == NULL) real = next(#NAME);                                              \
        ssize_t may = allowed(fd, total(parts, n), offset);                                \
        if (may < 0) return may;                                                           \
        if (n != 1) return real(fd, parts, n, offset, flags);                              \
        struct iovec one = {parts[0].iov_base, (size_t)may};                               \
        return real(fd, &one, 1, offset, flags);                                           \
    }
PREADV2(preadv2)
PREADV2(preadv64v2)

#define PWRITE(NAME)                                                                       \
    ssize_t NAME(int fd, const void *from, size_t count, off_t offset) {                   \
        static ssize_t (*real)(int, const void *, size_t, off_t);                          \
        if (real == NULL) real = next(#NAME);                                              \
        long long full = concerned(fd) ? told("enospc") : -1;                              \
        if (full >= 0 && offset + (long long)count > full) {                               \
            bite();                                                                        \
            errno = ENOSPC;                                                                \
            return -1;                                                                     \
        }                                                                                  \
        return real(fd, from, count, offset);                                              \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

int fstatfs(int fd, struct statfs *about) {
    static int (*real)(int, struct statfs *);
    if (real == NULL) real = next("fstatfs");
    int answer = real(fd, about);
    if (answer == 0 && concerned(fd) && told("nfs") >= 0) about->f_type = NFS_SUPER_MAGIC;
    return answer;
}

int madvise(void *address, size_t length, int advice) {
    static int (*real)(void *, size_t, int);
    if (real == NULL) real = next("madvise");
    /* One page is how the kernel is asked whether it can. */
    if (advice == POPULATE_READ && length > 4096 && told("populate") >= 0) {
        bite();
        errno = EFAULT;
        return -1;
    }
    return real(address, length, advice);
}
