"""``unclouded view``: a map of the results in a folder, in the browser."""

from __future__ import annotations

import socket
from pathlib import Path

import click

from ..errors import MissingDependencyError, OutputError
from ._talk import Talk


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="FOLDER")
@click.option("--port", default=8765, show_default=True, type=click.IntRange(0, 65535), help="0 takes any free one.")
@click.option(
    "--images", multiple=True, type=click.Path(path_type=Path), metavar="FOLDER",
    help="Folder of the masked scenes, so that they can be shown too; may be given several times.",
)  # fmt: skip
@click.option("--no-browser", is_flag=True, help="Only say where the map is.")
@click.pass_context
def command(ctx: click.Context, folder: Path, port: int, images: tuple[Path, ...], no_browser: bool) -> None:
    """Show the results in FOLDER on a map in the browser, until Ctrl-C.

    Only this machine can see it, and only files in FOLDER and the folders of --images are shown. It needs no network.
    """
    try:
        import uvicorn

        from ..view.app import make_app
    except ImportError as err:
        raise MissingDependencyError.for_extra(err.name or "starlette", "view") from err
    talk = ctx.find_object(Talk) or Talk()
    app = make_app(folder, images)
    try:
        listening = socket.create_server(("127.0.0.1", port))
    except OSError as err:
        raise OutputError(
            f"Port {port} cannot be used: {err.strerror}.",
            expected="The viewer needs a port that nothing else listens on.",
            remedy="Pass --port 0 to take any free one.",
        ) from err
    address = f"http://127.0.0.1:{listening.getsockname()[1]}/"
    talk.put(address)
    talk.emit({"address": address})
    talk.say("Ctrl-C ends it.")
    if not no_browser:
        click.launch(address)
    with listening:
        config = uvicorn.Config(app, log_level="warning", server_header=False, ws="none", lifespan="off")
        uvicorn.Server(config).run(sockets=[listening])
