"""The table of a study as text: for a terminal, Markdown, LaTeX, HTML, CSV or JSON."""

import csv
import html
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable

from ltrsys.reporting.table import p_value
from ltrsys.studies.table import FEW_AT_EQUAL, Line, StudyTable, as_json, title_of

PUBLISHED, PARAMETERS = "published", "parameters"
_DIFFERENCE = ["difference", "difference low", "difference high"]


def headings(table: StudyTable) -> list[str]:
    """Return the headings of all columns: ours, p, the published ones and the parameters."""
    ours = [title_of(column) for column in table.columns]
    tested = ["difference"] * (table.versus is not None) + [title for title, _ in _tests(table)]
    published = [f"{PUBLISHED} {title_of(column)}" for column in table.reference_columns]
    return ["", *ours, *tested, *published, PARAMETERS]


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
    """Return the table with lines; columns that the terminal has no room for stand in further tables below it."""
    text = io.StringIO()
    console = Console(file=text, width=width, highlight=False)
    rows = [(section, [cells(table, line) for line in lines]) for section, lines in _sections(table)]
    columns = [
        _Column(number, heading, [row[number] for _, own in rows for row in own])
        for number, heading in enumerate(headings(table))
    ]
    for number, fitting in enumerate(_columns_that_fit(columns, console.width)):
        shown = RichTable(title=table.title if number == 0 else None, title_justify="left")
        in_full = _width([column.full for column in fitting]) <= console.width
        for column in fitting:
            shown.add_column(
                column.heading,
                justify="left" if column.number == 0 or column.heading == PARAMETERS else "right",
                width=None if in_full else column.least,
            )
        for section, lines in rows:
            if section:
                shown.add_row(f"[bold]{section}[/bold]")
            for line in lines:
                shown.add_row(*(line[column.number] for column in fitting))
            shown.add_section()
        console.print(shown)
    for note in table.notes:
        console.print(note)
    return text.getvalue()


@dataclass(frozen=True)
class _Column:
    """A column in a terminal."""

    number: int
    heading: str
    texts: Sequence[str]

    @property
    def full(self) -> int:
        """Its width where nothing is broken."""
        return max(map(cell_len, [self.heading, *self.texts]))

    @property
    def least(self) -> int:
        """Its width where its heading, and parameters, are broken between words; no number is."""
        texts = " ".join(self.texts).split() if self.heading == PARAMETERS else self.texts
        return max(map(cell_len, [*self.heading.split(), *texts]), default=0)


def _columns_that_fit(columns: Sequence[_Column], most: int) -> list[list[_Column]]:
    """Divide columns among tables that are `most` wide; the first column, which names the rows, begins each of them."""
    first, *others = columns
    tables = [[first]]
    for column in others:
        if len(tables[-1]) > 1 and _width([own.least for own in [*tables[-1], column]]) > most:
            tables.append([first])
        tables[-1].append(column)
    return tables


def _width(columns: Sequence[int]) -> int:
    """Return the width of a table: two blanks and a line with each column, and a line at the end."""
    return 1 + sum(3 + column for column in columns)


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
    lines.writerow(["section", "row", "seeds", *ours, *_DIFFERENCE, "p", "p (few)", *published, PARAMETERS])
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
