"""What `zerostart bench` runs: each engine beside its peers, in one run, on one machine.

A bench module has `measure(rounds, note) -> Report`; figures are ratios of medians, and the
cases we lose are rows like the others.
"""
