"""The command ``ncode``. Exit codes: 0 done, 1 the search failed or was cut off, 2 wrong input, 3 the search paused
by itself.

Nothing heavier than click is imported before a command needs it.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from ncode_search import __version__
from ncode_search.agent.bench_commands import bench, evaluate
from ncode_search.agent.errors import HistoryUnavailableError, InputError, NcodeError, one_line
from ncode_search.agent.lasting_output import finish
from ncode_search.agent.prune_command import prune
from ncode_search.agent.ranker_commands import ranker as ranker_group
from ncode_search.agent.tabulate_command import tabulate

if TYPE_CHECKING:
    from ncode_search.agent.history import History

HISTORY = click.argument("history", type=click.Path(path_type=Path))


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ncode")
def cli() -> None:
    """Search architectures and configurations, with a language model as the ranker."""


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--trials", type=int, help="Trials to complete.")
@click.option("--workers", type=int, help="Evaluator processes.")
@click.option("--history", type=click.Path(path_type=Path), help="The SQLite file to keep the results in.")
@click.option("--seed", type=int, help="Seed of every random draw.")
@click.option("--ranker", help="embedded, llama, random, evolution, a path to a GGUF file, or a server's address.")
@click.option("--quiet", is_flag=True, help="Print nothing but warnings and the end.")
def run(
    file: Path,
    trials: int | None,
    workers: int | None,
    history: Path | None,
    seed: int | None,
    ranker: str | None,
    quiet: bool,
) -> None:
    """Start the search that FILE.toml describes, or resume it.

    Ctrl-C once: running trials are finished first. Twice: stop now; they start again next time.
    """
    from ncode_search.agent.running import run_file
    from ncode_search.agent.search_file import Overrides

    sys.exit(run_file(file, Overrides(trials, workers, seed, history, ranker), quiet=quiet))


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
def space(file: Path) -> None:
    """Show the space of FILE.toml: its options, how many codes it has, what they cost, and ten of them."""
    from ncode_search.agent.space_report import space_lines

    _print("\n".join(space_lines(file)))


@cli.command()
@HISTORY
@click.option("--check", is_flag=True, help="Print the first line only; exit with 1 where the search is not healthy.")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
def status(history: Path, check: bool, as_json: bool) -> None:
    """Show whether the search of HISTORY is healthy, and how it stands."""
    from ncode_search.agent import health_report, report
    from ncode_search.agent.health import examine, problems

    with _read(history) as opened:
        health = examine(opened)
        if as_json:
            _print(health_report.health_json(health))
        else:
            _print(health_report.verdict(health))
            if not check:
                _print("\n".join([*report.status_lines(opened, health.agent), *health_report.health_lines(health)]))
    if check and problems(health):
        sys.exit(1)


@cli.command()
@HISTORY
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
def best(history: Path, as_json: bool) -> None:
    """Show the best configuration found so far."""
    from ncode_search.agent import export, report

    with _read(history) as opened:
        found = opened.best()
        if found is None:
            raise NcodeError(f"{history}: no trial has completed yet")
        space = opened.space()
        _print(export.as_json(found, space) if as_json else "\n".join(report.best_lines(found, space)))


@cli.command()
@HISTORY
@click.option("--json", "form", flag_value="json", help="As JSON Lines, an object a trial.")
@click.option("--csv", "form", flag_value="csv", help="As CSV with a column a position and a metric.")
def trials(history: Path, form: str | None) -> None:
    """List all trials."""
    from ncode_search.agent import export

    writers = {"json": export.json_lines, "csv": export.csv_lines, None: export.text_lines}
    with _read(history) as opened:
        for line in writers[form](opened, opened.space()):
            _print(line)


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--code", help="The configuration to try, as NCode text; default: one drawn with the file's seed.")
def check_evaluator(file: Path, code: str | None) -> None:
    """Try whether the evaluator of FILE.toml does what searches need of it.

    It trains one configuration about four times, and quick ones up to twelve times more: take few epochs and little
    data. Exits with 1 where a check failed.
    """
    from ncode_search.agent.evaluator_check import check_lines

    _report(check_lines(file, code))


@cli.command()
@HISTORY
@click.option("-o", "--out", type=click.Path(path_type=Path), help="The new file; default: NAME.repaired.db beside it.")
def repair(history: Path, out: Path | None) -> None:
    """Recover what is left of a damaged HISTORY, and of its backups, into a new file."""
    from ncode_search.agent import repair as repairing

    for line in repairing.report_lines(history, repairing.repair(history, out)):
        _print(line)


@cli.command()
def doctor() -> None:
    """Check this machine: the core's build, llama.cpp, GPUs, and the packaged ranker."""
    from ncode_search.agent.doctor import examine

    _report(examine())


ranker_group.add_command(evaluate)
cli.add_command(ranker_group)
cli.add_command(bench)
cli.add_command(prune)
cli.add_command(tabulate)


@contextmanager
def _read(path: Path) -> Iterator[History]:
    from ncode_search.agent.database import translated
    from ncode_search.agent.history import History

    with translated(path), History.read(path) as history:
        yield history


def _print(text: str) -> None:
    print(text, flush=False)


def _report(lines: Iterable[tuple[str, bool]]) -> None:
    """Print lines as they come, each of which is good or not; exit with 1 where one was not."""
    healthy = True
    for line, good in lines:
        print(line, flush=True)
        healthy = healthy and good
    if not healthy:
        sys.exit(1)


def main() -> None:
    """The entry point: every error that is not a fault of this program is one line."""
    try:
        cli.main(prog_name="ncode", standalone_mode=False)
        print(end="", flush=True)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message())
        sys.exit(2)
    except click.ClickException as error:
        _fail(error.format_message(), 2)
    except InputError as error:
        _fail(str(error), 1 if isinstance(error, HistoryUnavailableError) else 2)
    except NcodeError as error:
        _fail(str(error), 1)
    except (click.Abort, KeyboardInterrupt):
        _fail("stopped", 1)
    except BrokenPipeError:
        # The reader of a pipe, such as `head`, has seen enough.
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
        finish(sys.stdout)
        _fail(f"cannot write{f' {error.filename}' if error.filename else ''}: {error.strerror}", 1)


def _fail(text: str, code: int) -> NoReturn:
    with suppress(OSError):  # the code tells, too
        print(f"ncode: {one_line(text)}", file=sys.stderr)
    finish(sys.stderr)
    sys.exit(code)
