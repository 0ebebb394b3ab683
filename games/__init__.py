"""Signaling games: agents, the game, its data sets."""

from games.signal_game import SignalGame

__all__ = ["SignalGame"]
