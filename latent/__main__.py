"""``python -m latent``: the command line."""

from latent.commands.main import app

app(prog_name="latent")
