"""Pictures of trainings and networks, drawn with matplotlib.

They need it: ``pip install "fastmlp[plot]"``. Each function draws into the Axes that it is given, or into a
new figure, and returns the Axes, on which everything can be changed: ``ax.set_title("mine")``,
``ax.figure.savefig("picture.png")``. The colours of lines and classes are told apart by colour-blind people
(Okabe and Ito's), and layers go from dark to bright.
"""

from .decisions import confusion_matrix, decision_boundary
from .landscape import loss_landscape
from .layers import activations, gradients, weights
from .over_time import diagnostics, history, lr_find

__all__ = [
    "activations",
    "confusion_matrix",
    "decision_boundary",
    "diagnostics",
    "gradients",
    "history",
    "loss_landscape",
    "lr_find",
    "weights",
]
