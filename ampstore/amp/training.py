"""How Amp's training ends.

Amp's optimisers catch the first by its class, so one class must be known by that name everywhere in a program:
`ampstore.amp.install` sees to it.
"""


class ConvergenceOccurred(Exception):  # noqa: N818 - Amp's name
    """The loss function met its criteria; it ends the optimiser from within."""


class TrainingConvergenceError(Exception):
    """The optimiser ended before the loss function met its criteria. The parameters are saved."""
