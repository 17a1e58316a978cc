# The worker team is for the kernel modules alone (_team.pxd); Python sees nothing of it.

__test__: dict[str, str]
__pyx_capi__: dict[str, object]
