"""Flower's client process, held to what a site has installed itself: no code of the coordinator is run.

Flower's SuperNode starts ``flwr-clientapp`` for each message, which unpacks the app that the coordinator sent
and imports it. ``fedkt site run`` puts this in its place. It reads the invitation out of the app, refuses an
app that holds anything else, and runs the site's own fedkt. It is Flower's process in all else.
"""

from typing import Any

from flwr.clientapp import ClientApp

from fedkt.deploy.site.lean import without_supernode


def main() -> None:
    """Be ``flwr-clientapp``, with Flower's own arguments."""
    without_supernode()
    from flwr.supernode.cli.flwr_clientapp import flwr_clientapp
    from flwr.supernode.runtime import run_clientapp as flower

    held: list[ClientApp] = []

    def take(bundle: bytes, *args: Any, **settings: Any) -> None:
        from fedkt.deploy.site.site_app import client_app
        from fedkt.deploy.wire.pack import invitation_in

        held.append(client_app(invitation_in(bundle)))

    def load(*args: Any, **settings: Any) -> Any:
        return lambda *app: held[0]

    # Both names are looked up in the module when they are called.
    vars(flower)["install_from_fab"] = take
    vars(flower)["get_load_client_app_fn"] = load
    flwr_clientapp()


if __name__ == "__main__":
    main()
