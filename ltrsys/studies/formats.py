"""The table of a study as text: for a terminal, Markdown, LaTeX, HTML, CSV or JSON."""

import csv
import html
import io
import json
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console
from rich.table import Table as RichTable

from ltrsys.reporting.table import p_value
from ltrsys.studies.table import FEW_AT_EQUAL, Line, StudyTable, as_json, title_of

PUBLISHED = "published"
_DIFFERENCE = ["difference", "difference low", "difference high"]


def headings(table: StudyTable) -> list[str]:
    """Return the headings of all columns: ours, p, the published ones and the parameters."""
    ours = [title_of(column) for column in table.columns]
    tested = ["difference"] * (table.versus is not None) + [title for title, _ in _tests(table)]
    published = [f"{PUBLISHED} {title_of(column)}" for column in table.reference_columns]
    return ["", *ours, *tested, *published, "parameters"]


def cells(table: StudyTable, line: Line) -> list[str]:
    """Return the texts of a row below `headings`."""
    ours = [str(line.cells[column]) for column in table.columns]
    tested = [_interval(line.difference)] * (table.versus is not None)
    tested += [p_value(value(line)) for _, value in _tests(table)]
    published = [
        f"{line.reference[column]:.1f}" if column in line.reference else "" for column in table.reference_columns
    ]
    return [line.label, *ours, *tested, *published, line.parameters]


def _interval(difference: tuple[float, float, float] | None) -> str:
    return "–" if difference is None else "{:+.1f} [{:+.1f}, {:+.1f}]".format(*difference)


def _tests(table: StudyTable) -> list[tuple[str, Callable[[Line], float | None]]]:
    """Return the headings of the paired tests, and what gives their p-values."""
    if table.versus is None:
        return []
    of_few: list[tuple[str, Callable[[Line], float | None]]] = [("p (few)", lambda line: line.few_shot_p_value)]
    return [("p", lambda line: line.p_value), *(of_few if FEW_AT_EQUAL in table.columns else [])]


def terminal(table: StudyTable, width: int | None = None) -> str:
    """Return the table with lines, as wide as the terminal."""
    text = io.StringIO()
    console = Console(file=text, width=width, highlight=False)
    shown = RichTable(title=table.title, title_justify="left")
    for number, heading in enumerate(headings(table)):
        shown.add_column(heading, justify="left" if number == 0 or heading == "parameters" else "right")
    for section, lines in _sections(table):
        if section:
            shown.add_row(f"[bold]{section}[/bold]")
        for line in lines:
            shown.add_row(*cells(table, line))
        shown.add_section()
    console.print(shown)
    for note in table.notes:
        console.print(note)
    return text.getvalue()


def markdown(table: StudyTable) -> str:
    """Return the table in Markdown."""
    rows = [headings(table), ["---"] + ["---:"] * (len(headings(table)) - 2) + ["---"]]
    for section, lines in _sections(table):
        if section:
            rows.append([f"**{section}**"] + [""] * (len(headings(table)) - 1))
        rows += [cells(table, line) for line in lines]
    text = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
    return "\n\n".join([f"**{table.title}**", text, *table.notes]) + "\n"


def latex(table: StudyTable) -> str:
    """Return the table in LaTeX, for the package booktabs."""
    columns = headings(table)
    lines = [f"% {table.title}", f"\\begin{{tabular}}{{l{'r' * (len(columns) - 2)}l}}", "\\toprule"]
    lines += [" & ".join(map(_tex, columns)) + " \\\\", "\\midrule"]
    for number, (section, rows) in enumerate(_sections(table)):
        if number:
            lines.append("\\midrule")
        if section:
            lines.append(f"\\multicolumn{{{len(columns)}}}{{l}}{{\\emph{{{_tex(section)}}}}} \\\\")
        lines += [" & ".join(map(_tex, cells(table, row))) + " \\\\" for row in rows]
    lines += ["\\bottomrule", "\\end{tabular}", *(f"% {note}" for note in table.notes)]
    return "\n".join(lines) + "\n"


def html_table(table: StudyTable) -> str:
    """Return the table in HTML, without anything around it."""
    columns = headings(table)
    lines = ["<table>", f"<caption>{html.escape(table.title)}</caption>"]
    lines.append("<thead><tr>" + "".join(f"<th>{html.escape(column)}</th>" for column in columns) + "</tr></thead>")
    for section, rows in _sections(table):
        lines.append("<tbody>")
        if section:
            lines.append(f'<tr><th colspan="{len(columns)}">{html.escape(section)}</th></tr>')
        for row in rows:
            lines.append("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells(table, row)) + "</tr>")
        lines.append("</tbody>")
    lines += ["</table>", *(f"<p>{html.escape(note)}</p>" for note in table.notes)]
    return "\n".join(lines) + "\n"


def comma_separated(table: StudyTable) -> str:
    """Return the table as RFC 4180 has it: numbers in columns of their own, means and deviations apart."""
    text = io.StringIO()
    lines = csv.writer(text)
    ours = [part for column in table.columns for part in (column, f"{column} deviation")]
    published = [f"{PUBLISHED} {column}" for column in table.columns]
    lines.writerow(["section", "row", "seeds", *ours, *_DIFFERENCE, "p", "p (few)", *published, "parameters"])
    for line in table.lines:
        numbers = [part for column in table.columns for part in (line.cells[column].mean, line.cells[column].spread)]
        tests = [*(line.difference or (None, None, None)), line.p_value, line.few_shot_p_value]
        references = [line.reference.get(column) for column in table.columns]
        lines.writerow([line.section, line.label, line.seeds, *numbers, *tests, *references, line.parameters])
    return text.getvalue()


def json_table(table: StudyTable) -> str:
    """Return the table as JSON."""
    return json.dumps(as_json(table), indent=1, ensure_ascii=False) + "\n"


FORMATS: Mapping[str, Callable[[StudyTable], str]] = {
    "terminal": terminal,
    "markdown": markdown,
    "latex": latex,
    "html": html_table,
    "csv": comma_separated,
    "json": json_table,
}


def _sections(table: StudyTable) -> list[tuple[str, Sequence[Line]]]:
    """Return the rows that follow one another under one heading."""
    sections: list[tuple[str, list[Line]]] = []
    for line in table.lines:
        if not sections or sections[-1][0] != line.section:
            sections.append((line.section, []))
        sections[-1][1].append(line)
    return [(section, lines) for section, lines in sections]


_TEX = {
    "\\": "\\textbackslash{}", "&": "\\&", "%": "\\%", "$": "\\$", "#": "\\#", "_": "\\_", "{": "\\{", "}": "\\}",
    "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "±": "$\\pm$", "–": "--", "τ": "$\\tau$",
}  # fmt: skip


def _tex(text: str) -> str:
    return "".join(_TEX.get(letter, letter) for letter in text)
