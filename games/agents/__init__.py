"""Senders and receivers by name: a new one is a file here and a line below.

Other distributions add theirs through entry points of the group ``discrete_latent.agents``. Which of the two an agent is
follows from its base class, or from that of what a function is annotated to return.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from estimators.parts import Registry
from games.agents.base import Agent, Receiver, Sender
from games.agents.dot_product import DotProductReceiver
from games.agents.mlp import MLPSender
from games.agents.published import ScalarFunctionSender

GROUP = "discrete_latent.agents"

SENDERS = Registry[Callable[..., Sender]](
    "sender", {"mlp": MLPSender, "published": ScalarFunctionSender}, makes=Sender, group=GROUP, family=Agent
)
RECEIVERS = Registry[Callable[..., Receiver]](
    "receiver", {"dot_product": DotProductReceiver}, makes=Receiver, group=GROUP, family=Agent
)

SenderPart = Annotated[str | Callable[[int, int], Sender], SENDERS]
"""An option of a task that is a sender: its name, or what makes it from the sizes of features and vocabulary."""

ReceiverPart = Annotated[str | Callable[[int, int], Receiver], RECEIVERS]
"""An option of a task that is a receiver, likewise."""

__all__ = ["RECEIVERS", "SENDERS", "Agent", "DotProductReceiver", "MLPSender", "Receiver", "ReceiverPart"]
__all__ += ["ScalarFunctionSender", "Sender", "SenderPart"]
