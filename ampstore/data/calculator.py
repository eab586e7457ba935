"""Anything that calculates, as one function of image and key that workers can be sent.

    calculator.calculate(image, key)     the protocol of Amp; `calculate(image)` too
    calculator(image)                    any callable
    calculator(image, key)               if the second argument is required, or is named `key`

A calculator travels to workers as a pickle: with everything that Amp puts into `globals` and
`keyed`. A `Data` in there (the neighbour lists) travels as its location and is read by the worker.
"""

import inspect
from collections.abc import Callable
from typing import Any

from ampstore.codec import Allowed, Codec
from ampstore.errors import CalculatorError
from ampstore.parallel import Function


class Calculation:
    """A calculator as a function of image and key.

    Parameters
    ----------
    calculator : object
        See the module.

    Raises
    ------
    CalculatorError
        If it is neither callable nor has a method `calculate`, or takes no image.
    """

    def __init__(self, calculator: object) -> None:
        self.calculator = calculator
        self.kind = getattr(calculator, "__qualname__", type(calculator).__name__)
        self._with_key = _wants_key(calculator, self.kind)

    def __call__(self, image: object, key: str) -> object:
        """Result for one image."""
        function = _function_of(self.calculator)
        return function(image, key) if self._with_key else function(image)


class Encoding:
    """A calculation whose results are encoded where they are made.

    So compressing runs in the workers too, and a result that cannot be stored is a failure of its
    own image.
    """

    def __init__(self, calculation: Calculation, codec: Codec) -> None:
        self.calculation = calculation
        self.codec = codec
        self.kind = calculation.kind

    def __call__(self, image: object, key: str) -> object:
        """Blob of the result for one image."""
        return self.codec.encode(self.calculation(image, key))

    def __reduce__(self) -> tuple[object, ...]:
        return _encoding, (self.calculation, *self.codec.options)


def _encoding(calculation: Calculation, allow: Allowed, level: int, codecs: tuple[str, ...]) -> Function:
    return Encoding(calculation, Codec(allow, level, codecs))


def _function_of(calculator: Any) -> Callable[..., object]:
    function: Callable[..., object] = getattr(calculator, "calculate", calculator)
    return function


def _wants_key(calculator: object, kind: str) -> bool:
    if calculator is None:
        raise CalculatorError("None", "there is nothing to calculate with; give Data a calculator=")
    function = _function_of(calculator)
    if not callable(function):
        raise CalculatorError(kind)
    if isinstance(calculator, type):
        raise CalculatorError(kind, f"it is a class; give an object of it, {kind}(...)")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some builtins have none
        return function is not calculator
    if not _takes(signature, 2):
        if _takes(signature, 1):
            return False
        raise CalculatorError(kind, f"it must take an image, or an image and its key, but takes {signature}")
    if function is not calculator:
        return True  # as Amp calls it
    return not _takes(signature, 1) or "key" in signature.parameters


def _takes(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True
