# How an evaluation runs: `python tools/test.py CONFIG` builds ovseg.engine.EvalRunner from this.
default_scope = "ovseg"
test_cfg = dict(type="OVTestLoop")
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),  # where there is no GPU, gloo is taken
)
# The loop shows its own progress, and nothing is trained: MMEngine's hooks for logs, timers and checkpoints are off.
default_hooks = dict(
    timer=None,
    logger=None,
    param_scheduler=None,
    checkpoint=None,
    sampler_seed=None,
    result=dict(type="ResultHook"),
)
visualizer = dict(type="Visualizer", vis_backends=[])
log_level = "INFO"
launcher = "none"
load_from = None
