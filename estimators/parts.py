"""Parts by name, and parts inside parts.

A part is a class or function that makes something; its options are its keyword-only arguments. An option may itself be a part:
its annotation then says which registry it is chosen from, and its default is a name.

>>> def game(data, *, sender: Annotated[str | Callable[[int], Sender], SENDERS] = "mlp"):
...     network = SENDERS.make("sender", sender, data.size)

In a configuration the option is a name or a block with a name and options; in Python a name, or whatever makes the part, such
as ``partial(MLPSender, hidden_size=8)``.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar, final

from estimators.options import OptionError, nearest

Part = TypeVar("Part", bound=Callable[..., object], covariant=True)
Made = TypeVar("Made")


@final
class Registry(Mapping[str, Part]):
    """The parts of one kind that come with this project, by name.

    Args:
        kind: what one of them is called, as in ``sender``.
        parts: the parts.
        makes: what each of them makes.
        group: the group of entry points through which other distributions add to them.
        family: what the parts of that group make, where it serves several registries; each takes those that make its own kind.
        check: called with each part of another distribution; raises, if that lacks what parts of this kind must have.
    """

    def __init__(
        self,
        kind: str,
        parts: Mapping[str, Part],
        *,
        makes: type = object,
        group: str = "",
        family: type | None = None,
        check: Callable[[Any], object] | None = None,
    ) -> None:
        self.kind = kind
        self.parts = dict(parts)
        self.makes = makes
        self.group = group
        self.family = family or makes
        self.check = check

    def __getitem__(self, name: str) -> Part:
        return self.parts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def make(self, option: str, choice: str | Callable[..., Made], *arguments: object) -> Made:
        """Make the part that the option ``option`` chooses.

        Args:
            option: the option's name, which errors start with.
            choice: the name of a part of this project, or what makes one.
            arguments: what it is made from.

        Raises:
            OptionError: if there is no such part, or it refuses an option of its own.
        """
        if isinstance(choice, str) and choice not in self.parts:
            message = f"there is no {self.kind} {choice!r}{nearest(choice, self.parts)}; one of: {', '.join(self.parts)}"
            raise OptionError(option, message)
        part = typing.cast("Callable[..., Made]", self.parts[choice]) if isinstance(choice, str) else choice
        try:
            return part(*arguments)
        except OptionError as error:
            raise OptionError(f"{option}.{error.option}", error.message) from error


def made_by(part: Callable[..., object]) -> object:
    """What a part makes: a class itself, a function what its annotation says; ``object`` where it says nothing."""
    return part if inspect.isclass(part) else typing.get_type_hints(part).get("return", object)
