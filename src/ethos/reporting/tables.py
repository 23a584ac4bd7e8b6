"""Tables for people, printed by the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Group
    from rich.table import Table


def plain_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Return a table; columns that hold numbers are aligned to the right."""
    from rich import box
    from rich.table import Table

    listed = [list(row) for row in rows]
    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        numeric = bool(listed) and all(_is_number(row[index]) for row in listed)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in listed:
        table.add_row(*row)
    return table


def layer_table(report: dict[str, Any]) -> Group:
    """Return the layers of a network and the steps that made it from its base (`ethos specs show`)."""
    from rich.console import Group

    rows = [
        [
            str(layer["index"]),
            str(layer["from"]),
            layer["module"],
            f"{layer['parameters']:,}",
            f"{layer['macs']:,}",
            ", ".join(map(str, layer["changed_by"])),
        ]
        for layer in report["layers"]
    ]
    rows.append(["", "", "total", f"{report['parameters']:,}", f"{report['macs']:,}", ""])
    title = (
        f"{report['name']}: {report['base']}, {report['activation']}, {report['classes']} classes, {report['imgsz']} px"
    )
    layers = plain_table(title, ["layer", "from", "module", "parameters", "MACs", "changed by step"], rows)
    return Group(layers, _step_table(report))


def _step_table(report: dict[str, Any]) -> Table:
    rows = [["", report["base"], f"{report['base_parameters']:,}", "", f"{report['base_macs']:,}", ""]]
    for number, step in enumerate(report["steps"], 1):
        arguments = ", ".join(f"{key}: {value}" for key, value in step["arguments"].items())
        rows.append(
            [
                str(number),
                f"{step['step']} {arguments}".strip(),
                f"{step['parameters']:,}",
                f"{step['parameters_change']:+,}",
                f"{step['macs']:,}",
                f"{step['macs_change']:+,}",
            ]
        )
    return plain_table("Steps", ["step", "what", "parameters", "change", "MACs", "change"], rows)


def activation_table(report: dict[str, Any]) -> Table:
    """Return the layers with their activations (`ethos verify`)."""
    rows = [[layer["name"], layer["operator"], layer["activation"] or "none"] for layer in report["layers"]]
    sha256 = f" (SHA-256 {report['sha256'][:12]})" if "sha256" in report else ""
    title = f"{report['subject']}{sha256}: {report['kind']}, {report['declared'] or 'nothing'} declared"
    return plain_table(title, ["layer", "operator", "activation"], rows)


def check_table(report: dict[str, Any]) -> Table:
    """Return the result of each data check (`ethos data check`)."""
    verdicts = {True: "ok", False: "FAIL"}
    rows = [
        [
            verdicts[check["ok"]] if check["ok"] or check["severity"] == "error" else "warn",
            check["name"],
            str(check["count"]),
            str(check["limit"]),
            check["message"],
        ]
        for check in report["checks"]
    ]
    title = f"{report['dataset']}: {'passes' if report['ok'] else 'fails'} (SHA-256 {report['sha256'][:12]})"
    return plain_table(title, ["", "check", "count", "limit", "what"], rows)


def doctor_table(report: dict[str, Any]) -> Table:
    """Return what the pre-flight found, with what helps (`ethos doctor`)."""
    verdicts = {"ok": "ok", "warn": "warn", "error": "FAIL"}
    rows = [[verdicts[each["status"]], each["name"], each["detail"], each["fix"]] for each in report["checks"]]
    return plain_table("", ["", "check", "what", "fix"], rows)


def _is_number(text: str) -> bool:
    return text.strip("-+ ,.%").replace(",", "").replace(".", "").isdigit() or text in {"-", ""}
