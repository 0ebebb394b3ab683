"""``python -m latent``: the command line."""

from latent.cli import app

app(prog_name="latent")
