"""Deliver to MLflow the part of a study's event log that did not arrive while the study ran.

python -m platform.deliver STUDY                                  to the MLflow store of the study
python -m platform.deliver STUDY --tracking-uri http://host:5000  to another MLflow store
"""

import argparse
from dataclasses import replace

from platform.errors import EXIT_INCOMPLETE, InputError, print_error, raise_if_any
from platform.signals import run_and_exit


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options."""
    p = argparse.ArgumentParser(
        prog="python -m platform.deliver", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("study", help="name of the study")
    p.add_argument("--storage", default="studies", metavar="DIR", help="folder of studies (default studies)")
    p.add_argument("--tracking-uri", metavar="URI", help="another MLflow store (default: the study's)")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    options = parser().parse_args(arguments)
    from filelock import Timeout
    from rich.console import Console

    from platform.study import event_log, metadata
    from platform.study.request import EVENT_LOG, busy_fault, lock, read_request, studies_in
    from platform.tracking.delivery import Delivery
    from platform.tracking.mlflow_store import address_faults

    try:
        folder = studies_in(options.storage, options.study) / options.study
        raise_if_any(address_faults(options.tracking_uri or ""))
        request = read_request(folder)
        with lock(request).acquire(blocking=False):
            events = event_log.read(folder / EVENT_LOG)
            study = metadata.from_json(events[0].data["facts"])
            delivery = Delivery(replace(study, tracking_uri=options.tracking_uri or study.tracking_uri), events, folder)
            delivery.start()
            undelivered = delivery.close()
    except (InputError, Timeout) as error:
        fault = error if isinstance(error, InputError) else InputError(busy_fault(request))
        return print_error(Console(stderr=True), fault)
    console = Console()
    if undelivered:
        console.print(f"{undelivered} events did not reach {delivery.study.tracking_uri}:")
        console.print(delivery.last_error, markup=False, soft_wrap=True)
        return EXIT_INCOMPLETE
    console.print(f"All of {options.study} is in MLflow at {delivery.study.tracking_uri}.", soft_wrap=True)
    return 0


if __name__ == "__main__":
    run_and_exit(main, "The events that did not arrive are kept. The same command delivers them.")
