"""completion: the script that lets a shell complete commands and options."""

from __future__ import annotations

import click

SHELLS = ("bash", "zsh", "fish")


@click.command(short_help="Print the completion script for a shell.")
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the script with which a shell completes commands and options of defectd.

    deploy/install.sh installs the one for bash.

    \b
    Examples:
      defectd completion bash > /etc/bash_completion.d/defectd
      defectd completion zsh > ~/.zfunc/_defectd
      defectd completion fish > ~/.config/fish/completions/defectd.fish
    """
    from click.shell_completion import get_completion_class

    script = get_completion_class(shell)
    assert script is not None
    root = click.get_current_context().find_root().command
    click.echo(script(root, {}, "defectd", "_DEFECTD_COMPLETE").source())
