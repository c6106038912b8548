"""Instances with nothing behind them, whose states move all the same: a step of their lives with each listing."""
from . import outages

NEXT = {"pending": ("running", 16), "shutting-down": ("terminated", 48), "stopping": ("stopped", 80)}

moves = False


def begin():
    """From now on. An instance is alive from its first listing on, so that its end takes a listing, too."""
    global moves
    moves = True


def step(listing):
    from .api import changing
    if not moves or not listing:
        return
    with changing:
        for row in outages.rows():
            if row._state.name in NEXT:
                row._state.name, row._state.code = NEXT[row._state.name]
                row.alive = row._state.name == "running"
                if row.alive:
                    row.state_reason = None
