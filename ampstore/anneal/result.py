"""What a search gives back."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ampstore.anneal.chain import Chain
from ampstore.anneal.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Result:
    """The outcome of a search.

    Attributes
    ----------
    state, loss : object, float
        The best state that was met, the initial one included, and its loss.
    final_state, final_loss : object, float
        Where the search was when it ended.
    steps : int
        Moves made.
    accepted, improved, not_finite, evaluations : int
        Moves accepted; accepted that lowered the loss; rejected since their loss was NaN or infinite;
        calls of the loss.
    elapsed : float
        Seconds of work, those before a resume included.
    stopped : str
        "" if the schedule was run to its end, else what ended it: "SIGINT", "user_exit", ...
    trace : Trace
    """

    state: Any
    loss: float
    final_state: Any
    final_loss: float
    steps: int
    accepted: int
    improved: int
    not_finite: int
    evaluations: int
    elapsed: float
    stopped: str = ""
    trace: Trace = field(default_factory=Trace, repr=False)

    @classmethod
    def of(cls, chain: Chain) -> "Result":
        """Result of a chain as it is now."""
        chain.exact()
        return cls(
            state=chain.copy(chain.best),
            loss=chain.best_loss,
            final_state=chain.copy(chain.state),
            final_loss=chain.loss,
            steps=chain.step,
            accepted=chain.accepted,
            improved=chain.improved,
            not_finite=chain.not_finite,
            evaluations=chain.evaluations,
            elapsed=chain.elapsed,
            stopped=chain.stops[0] if chain.stops and not chain.finished else "",
            trace=chain.trace,
        )

    @property
    def acceptance(self) -> float:
        """Share of all moves that were accepted."""
        return self.accepted / max(self.steps, 1)

    def plot(self, axes: "Sequence[Axes] | None" = None) -> "Sequence[Axes]":
        """Draw the trace: loss and best, temperature, acceptance.

        Parameters
        ----------
        axes : three matplotlib Axes, optional
            Where to draw; else on a new figure, which needs no display: ``axes[0].figure.savefig(...)``.

        Returns
        -------
        sequence of three matplotlib Axes
        """
        from ampstore.anneal.plot import draw_trace

        return draw_trace(self.trace, axes)


@dataclass(frozen=True)
class ExchangeResult(Result):
    """The outcome of a replica exchange.

    The attributes of `Result` are those of the replica with the lowest loss, counts are sums.

    Attributes
    ----------
    temperatures : tuple of float
        The ladder, lowest first.
    traces : tuple of Trace
        By rung.
    swap_rates : tuple of float
        Share of the swaps with the next rung up that were accepted; one fewer than rungs.
    walkers : tuple of int
        Which initial replica is on each rung now.
    """

    temperatures: tuple[float, ...] = ()
    traces: tuple[Trace, ...] = ()
    swap_rates: tuple[float, ...] = ()
    walkers: tuple[int, ...] = ()

    def plot(self, axes: "Sequence[Axes] | None" = None) -> "Sequence[Axes]":
        """Draw the losses of all rungs, their acceptance, and the rates of exchange; see `Result.plot`."""
        from ampstore.anneal.plot import draw_exchange

        return draw_exchange(self.temperatures, self.traces, self.swap_rates, axes)
