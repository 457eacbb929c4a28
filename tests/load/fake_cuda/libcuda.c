/* A libcuda.so.1 without a GPU, for the tests of the cufile reader.
 *
 * "Device" memory is host memory that came from fake_alloc(); every other pointer is the host's.
 * Copies are memcpy, streams are synchronous. It has the driver functions that kvikio 26.10 looks
 * up (kvikio/shim/cuda.hpp) and no more; fake_copied() tells a test that bytes took the way to the
 * device.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef int CUresult;
typedef unsigned long long CUdeviceptr;
typedef void *handle; /* CUcontext, CUstream, CUevent */

enum { SUCCESS = 0, INVALID_VALUE = 1 };
enum { ATTRIBUTE_CONTEXT = 1, ATTRIBUTE_MEMORY_TYPE = 2, ATTRIBUTE_DEVICE_POINTER = 3,
       ATTRIBUTE_HOST_POINTER = 4, ATTRIBUTE_DEVICE_ORDINAL = 9 };
enum { MEMORY_HOST = 1, MEMORY_DEVICE = 2 };
enum { ALLOCATIONS = 1024, ALIGNMENT = 65536, PAGE = 4096 };

static struct { char *start; size_t size; } allocations[ALLOCATIONS];
static int count;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static size_t copied;
static int context;

static void *aligned(size_t alignment, size_t size) {
  return aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
}

CUdeviceptr fake_alloc(size_t size) {
  CUdeviceptr result = 0;
  pthread_mutex_lock(&lock);
  if (count < ALLOCATIONS) {
    allocations[count].start = aligned(ALIGNMENT, size);
    allocations[count].size = size;
    result = (CUdeviceptr)(uintptr_t)allocations[count++].start;
  }
  pthread_mutex_unlock(&lock);
  return result;
}

size_t fake_copied(void) { return __atomic_load_n(&copied, __ATOMIC_RELAXED); }

static int find(CUdeviceptr pointer) {
  int found = -1;
  char *at = (char *)(uintptr_t)pointer;
  pthread_mutex_lock(&lock);
  for (int i = 0; i < count && found < 0; i++)
    if (at >= allocations[i].start && at < allocations[i].start + allocations[i].size) found = i;
  pthread_mutex_unlock(&lock);
  return found;
}

static CUresult copy(void *to, const void *from, size_t size) {
  memcpy(to, from, size);
  return SUCCESS;
}

/* Memory */
CUresult cuMemHostAlloc(void **out, size_t size, unsigned flags) {
  *out = aligned(PAGE, size);
  return SUCCESS;
}
CUresult cuMemFreeHost(void *pointer) {
  free(pointer);
  return SUCCESS;
}
CUresult cuMemHostRegister(void *pointer, size_t size, unsigned flags) { return SUCCESS; }
CUresult cuMemHostRegister_v2(void *pointer, size_t size, unsigned flags) { return SUCCESS; }
CUresult cuMemHostUnregister(void *pointer) { return SUCCESS; }
CUresult cuMemGetAddressRange_v2(CUdeviceptr *start, size_t *size, CUdeviceptr pointer) {
  int found = find(pointer);
  if (found < 0) return INVALID_VALUE;
  if (start) *start = (CUdeviceptr)(uintptr_t)allocations[found].start;
  if (size) *size = allocations[found].size;
  return SUCCESS;
}
CUresult cuPointerGetAttribute(void *out, int attribute, CUdeviceptr pointer) {
  int found = find(pointer);
  switch (attribute) {
    case ATTRIBUTE_CONTEXT: *(handle *)out = found < 0 ? NULL : &context; break;
    case ATTRIBUTE_MEMORY_TYPE: *(unsigned *)out = found < 0 ? 0 : MEMORY_DEVICE; break;
    case ATTRIBUTE_DEVICE_ORDINAL: *(int *)out = 0; break;
    case ATTRIBUTE_DEVICE_POINTER:
    case ATTRIBUTE_HOST_POINTER: *(CUdeviceptr *)out = pointer; break;
    default: return INVALID_VALUE;
  }
  return SUCCESS;
}
CUresult cuPointerGetAttributes(unsigned n, int *attributes, void **out, CUdeviceptr pointer) {
  for (unsigned i = 0; i < n; i++)
    if (cuPointerGetAttribute(out[i], attributes[i], pointer)) return INVALID_VALUE;
  return SUCCESS;
}

/* Copies */
CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t size, handle stream) {
  if (find(to) < 0) return INVALID_VALUE;
  __atomic_fetch_add(&copied, size, __ATOMIC_RELAXED);
  return copy((void *)(uintptr_t)to, from, size);
}
CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t size, handle stream) {
  return find(from) < 0 ? INVALID_VALUE : copy(to, (void *)(uintptr_t)from, size);
}
CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t size, handle stream) {
  if (find(to) >= 0) __atomic_fetch_add(&copied, size, __ATOMIC_RELAXED);
  return copy((void *)(uintptr_t)to, (void *)(uintptr_t)from, size);
}

/* Contexts, devices */
CUresult cuInit(unsigned flags) { return SUCCESS; }
CUresult cuDriverGetVersion(int *version) { return *version = 12060, SUCCESS; }
CUresult cuDeviceGet(int *device, int ordinal) { return *device = ordinal, SUCCESS; }
CUresult cuDeviceGetCount(int *devices) { return *devices = 1, SUCCESS; }
CUresult cuDeviceGetAttribute(int *value, int attribute, int device) { return *value = 0, SUCCESS; }
CUresult cuDevicePrimaryCtxRetain(handle *out, int device) { return *out = &context, SUCCESS; }
CUresult cuDevicePrimaryCtxRelease_v2(int device) { return SUCCESS; }
CUresult cuCtxCreate_v2(handle *out, unsigned flags, int device) { return *out = &context, SUCCESS; }
CUresult cuCtxCreate_v4(handle *out, void *parameters, unsigned flags, int device) {
  return *out = &context, SUCCESS;
}
CUresult cuCtxDestroy_v2(handle which) { return SUCCESS; }
CUresult cuCtxPushCurrent_v2(handle which) { return SUCCESS; }
CUresult cuCtxPopCurrent_v2(handle *out) {
  if (out) *out = &context;
  return SUCCESS;
}
CUresult cuCtxGetCurrent(handle *out) { return *out = &context, SUCCESS; }
CUresult cuCtxGetDevice(int *device) { return *device = 0, SUCCESS; }

/* Streams, events, errors */
CUresult cuStreamCreate(handle *out, unsigned flags) { return *out = &context, SUCCESS; }
CUresult cuStreamDestroy_v2(handle stream) { return SUCCESS; }
CUresult cuStreamSynchronize(handle stream) { return SUCCESS; }
CUresult cuEventCreate(handle *out, unsigned flags) { return *out = &context, SUCCESS; }
CUresult cuEventDestroy_v2(handle event) { return SUCCESS; }
CUresult cuEventRecord(handle event, handle stream) { return SUCCESS; }
CUresult cuEventQuery(handle event) { return SUCCESS; }
CUresult cuEventSynchronize(handle event) { return SUCCESS; }
CUresult cuLaunchHostFunc(handle stream, void (*call)(void *), void *argument) {
  return call(argument), SUCCESS;
}
CUresult cuGetErrorName(CUresult error, const char **out) { return *out = "FAKE_ERROR", SUCCESS; }
CUresult cuGetErrorString(CUresult error, const char **out) { return *out = "fake", SUCCESS; }
