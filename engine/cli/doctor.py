"""`ebr doctor`: what this machine has and lacks for serving."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from engine.cli import costs as planner_costs
from engine.cli import forecast, output, probes, session
from engine.cli.probes import Finding

app = typer.Typer(add_completion=False)

_MARKS = {"ok": ("ok", "green"), "note": ("note", "yellow"), "missing": ("MISSING", "bold red")}


@app.command()
def doctor(
    data_dir: Annotated[
        Path, typer.Option("--data-dir", envvar="EBR_DATA_DIR", metavar="DIR", help="Folder the server would write to.")
    ] = Path("ebr-data"),
    listen: Annotated[
        str, typer.Option("--listen", envvar="EBR_LISTEN", metavar="HOST:PORT", help="Address it would listen on.")
    ] = session.DEFAULT_TARGET,
    device_memory_bytes: Annotated[
        int | None,
        typer.Option(
            "--device-memory-bytes",
            envvar="EBR_DEVICE_MEMORY_BYTES",
            min=1,
            metavar="BYTES",
            help="Forecast what the collections of the data directory take of so much of a GPU's memory; unless given, "
            "of 4 / 5 of what the GPU of this machine has free.",
        ),
    ] = None,
    costs: Annotated[
        int | None,
        typer.Option(
            "--costs",
            min=1,
            metavar="DIMENSION",
            help="Also measure what exact searches of vectors of this dimension cost here, as the planner sees it.",
        ),
    ] = None,
    costs_to: Annotated[
        Path | None,
        typer.Option("--costs-to", metavar="FILE", help="Write them for the server's setting costs_file."),
    ] = None,
    as_json: session.JsonOption = False,
) -> None:
    """Tell what this machine has and lacks for serving; exit with 1 if something required is missing."""
    findings = [
        *probes.probe_python(),
        *probes.probe_libraries(),
        *probes.probe_cpu(),
        *probes.probe_memory(),
        *probes.probe_gpu(),
        probes.probe_data_dir(data_dir),
        probes.probe_port(listen),
    ]
    if costs_to is not None and costs is None:
        raise typer.BadParameter("needs --costs DIMENSION", param_hint="--costs-to")
    if costs is not None:
        measured = planner_costs.measured(costs, data_dir)
        findings.extend(planner_costs.told(measured, costs))
        if costs_to is not None:
            planner_costs.write(measured, costs_to)
    budget = forecast.device_budget(device_memory_bytes)
    foreseen = forecast.forecasts(data_dir, budget[0]) if budget else []
    if budget:
        findings.extend(forecast.told(foreseen, *budget))
    lacks = [one for one in findings if one.state == "missing"]
    if as_json:
        output.print_json({"ready": not lacks, "findings": [one._asdict() for one in findings], "forecast": foreseen})
    else:
        _tell(findings, lacks)
    if lacks:
        raise typer.Exit(1)


def _tell(findings: list[Finding], lacks: list[Finding]) -> None:
    table = output.new_table("", "", "found", "")
    for one in findings:
        word, style = _MARKS[one.state]
        table.add_row(Text(one.area), Text(one.name), Text(one.found), Text(word, style=style))
    session.out.print(table)
    for one in findings:
        if one.remedy:
            style = "red" if one.state == "missing" else "yellow"
            session.out.print(Text(f"{one.name}: {one.remedy}", style=style), soft_wrap=True)
    if lacks:
        session.out.print(Text("not ready to serve", style="bold red"))
    else:
        session.out.print(Text("ready to serve", style="bold green"))
