"""Commands about the shell: completion."""

import click

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    r"""Print the completion of commands, options and paths for a shell.

    \b
    bash   ampstore completion bash > ~/.local/share/bash-completion/completions/ampstore
    zsh    ampstore completion zsh > "${fpath[1]}/_ampstore"
    fish   ampstore completion fish > ~/.config/fish/completions/ampstore.fish
    """
    from click.shell_completion import get_completion_class

    from ampstore.cli import main

    found = get_completion_class(shell)
    if found is None:
        raise click.ClickException(f"click, which makes the completion, knows no {shell}")
    click.echo(found(main, {}, "ampstore", "_AMPSTORE_COMPLETE").source())
