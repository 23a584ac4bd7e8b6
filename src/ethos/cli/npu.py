"""`ethos analyze`: what NPUs make of networks."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads annotations at run time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ethos.console import AsJson, print_json, print_table
from ethos.errors import SpecError, unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ethos.npu.blocks import Block
    from ethos.specs import Target

QUANTIZED = "outputs/quantize"
DOES_NOT_FIT = 1
ALL_MODES = "all"


def analyze(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="A full-integer INT8 TFLite file. --matrix takes any number, by default those of the last run; "
            "--compare takes two, which may be stored reports (.json)."
        ),
    ] = None,
    target: Annotated[list[str] | None, typer.Option(help="Target spec; give it more than once for more.")] = None,
    compiled: Annotated[Path | None, typer.Option(help="Keep the compiled files in this folder.")] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Make each advised change on the file and compile that too.")
    ] = False,
    matrix: Annotated[bool, typer.Option("--matrix", help="One table of all files, targets and memory modes.")] = False,
    memory_mode: Annotated[
        list[str] | None, typer.Option(help="Memory mode for --matrix, or 'all'; each target's own by default.")
    ] = None,
    compare: Annotated[bool, typer.Option("--compare", help="Show which layers of two are slower or faster.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write a page with pictures to this file.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write a page to this file, pictures beside it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compile networks for NPUs: where operators run, what they cost, what to change. Exit 1 if one does not fit."""
    from ethos import catalog

    _refuse_mixtures(compare, matrix, compiled, verify, memory_mode)
    targets = [catalog.load("target", name) for name in dict.fromkeys(target or catalog.load_params().targets)]
    if compare:
        document, blocks = _compare(files or [], targets)
    elif matrix:
        document, blocks = _matrix(files or [], targets, memory_mode or [])
    else:
        document, blocks = _one(files or [], targets, compiled, verify)
    _write(blocks, html, markdown)
    if as_json:
        print_json(document)
    else:
        _print(document, blocks)
    if not _fits(document):
        raise typer.Exit(DOES_NOT_FIT)


Answer = tuple[dict[str, Any], "Callable[[], list[Block]]"]


def _one(files: Sequence[Path], targets: Sequence[Target], compiled: Path | None, verify: bool) -> Answer:
    from ethos.npu import vela

    if len(files) != 1:
        raise SpecError(f"one file is analyzed at a time, got {len(files)}", "give one file, or --matrix or --compare")
    with vela.started(files[0], targets) as compilers:
        # takes a while to import; the compilers run meanwhile
        from ethos.npu.analyze import analyze_started

        report = analyze_started(files[0], targets, compilers, compiled, verify)

    def page() -> list[Block]:
        from ethos.npu.pages import analysis_blocks

        return analysis_blocks(report)

    return report, page


def _matrix(files: Sequence[Path], targets: Sequence[Target], modes: Sequence[str]) -> Answer:
    from ethos.catalog import project_root
    from ethos.npu.matrix import build_matrix, candidates_of_run, matrix_blocks
    from ethos.npu.vela import MEMORY_MODES
    from ethos.specs import VelaTarget

    stems = {file.stem: file for file in files}
    named = stems if len(stems) == len(set(files)) else {str(file): file for file in files}
    candidates = named or candidates_of_run(project_root() / QUANTIZED)
    if not candidates:
        raise SpecError(f"no INT8 files in {QUANTIZED}", "run the pipeline first (make repro), or name files")
    known = (*MEMORY_MODES, ALL_MODES)
    # an .ini file of one's own may name others
    if not any(isinstance(target, VelaTarget) and target.config_file for target in targets):
        for mode in modes:
            if mode not in known:
                raise unknown("memory mode", mode, known, where="--memory-mode")
    document = build_matrix(candidates, targets, MEMORY_MODES if ALL_MODES in modes else list(dict.fromkeys(modes)))
    return document, lambda: matrix_blocks(document)


def _compare(files: Sequence[Path], targets: Sequence[Target]) -> Answer:
    from ethos.npu.compare import compare, comparison_blocks, load_analysis

    if len(files) != 2:
        raise SpecError(f"--compare takes two files, got {len(files)}", "give two TFLite files or stored reports")
    document = compare(*(load_analysis(file, targets) for file in files))
    return document, lambda: comparison_blocks(document)


def _refuse_mixtures(compare: bool, matrix: bool, compiled: Path | None, verify: bool, modes: list[str] | None) -> None:
    if compare and matrix:
        raise SpecError("--compare and --matrix exclude each other", "give one of them")
    if (compare or matrix) and (compiled or verify):
        raise SpecError("--compiled and --verify are for a single file", "leave out --compare and --matrix")
    if modes and not matrix:
        raise SpecError("--memory-mode is for --matrix", "give --matrix, or a target spec of its own")


def _fits(document: dict[str, Any]) -> bool:
    """Whether nothing is over budget; a comparison or a matrix shows that without failing."""
    targets = document["targets"] if "graph" in document else {}
    return all(report["fits"] is not False for report in targets.values())


def _write(blocks: Callable[[], list[Block]], html: Path | None, markdown: Path | None) -> None:
    if html or markdown:
        from ethos.npu.pages import write_html, write_markdown

        page = blocks()
        if html:
            write_html(page, html)
        if markdown:
            write_markdown(page, markdown)


def _print(document: dict[str, Any], blocks: Callable[[], list[Block]]) -> None:
    from ethos.npu.tables import render, render_blocks

    shown = render(document) if "graph" in document else render_blocks(blocks())
    print_table(shown)
