"""How fast: ratios against named references, measured in the same process.

``python -m benchmarks.speed`` measures every row of the table on the CPU and writes
``benchmarks/results/speed_cpu.json`` and ``.md``; ``benchmarks.speed.gpu`` does the
part that needs a CUDA device.
"""
