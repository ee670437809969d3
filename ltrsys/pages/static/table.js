"use strict";
/* A table of many rows: those in sight alone are in the document; headings sort, whatever is filtered. */
ltrsys.table = (() => {
  const { element } = ltrsys;
  const SPARE = 8; // rows above and below those in sight
  const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

  /** Return for each row a number to sort by. */
  function keysOf(column, count) {
    if (column.number) return Float64Array.from({ length: count }, (_, row) => column.number(row));
    const texts = Array.from({ length: count }, (_, row) => column.text(row));
    const distinct = [...new Set(texts)].sort(collator.compare);
    const rank = new Map(distinct.map((text, place) => [text, place]));
    return Float64Array.from(texts, (text) => rank.get(text));
  }

  /**
   * Add a table.
   *
   * columns: {title, width, text(row)} and, for what is sorted as a number, number(row); NaN is always last.
   *   `fill(cell, row)` may put more than a text into a cell.
   * Returns show(rows): which rows are in it.
   */
  function add(body, { label, columns, count }) {
    const keys = new Map();
    const state = { column: 0, descending: false, rows: Array.from({ length: count }, (_, row) => row), first: -1 };
    const scroller = element("div", { class: "rows", tabindex: "0", role: "region", "aria-label": label });
    const heads = columns.map((column, place) =>
      element("th", { scope: "col", class: column.number ? "number" : false },
        element("button", { type: "button", onclick: () => sort(place) }, column.title)));
    const rows = element("tbody");
    const table = element("table", { "aria-label": label },
      element("colgroup", {}, ...columns.map((column) => element("col", { style: `width: ${column.width}rem` }))),
      element("thead", {}, element("tr", { "aria-rowindex": "1" }, ...heads)), rows);
    table.style.minWidth = `${columns.reduce((sum, column) => sum + column.width, 0)}rem`;
    scroller.append(table);
    body.append(scroller);
    scroller.addEventListener("scroll", () => render(false), { passive: true });
    new ResizeObserver(() => render(true)).observe(scroller);

    function sort(place) {
      // accuracies and counts are looked at from the top, names from A
      const turned = state.column === place ? !state.descending : columns[place].number !== undefined;
      [state.column, state.descending] = [place, turned];
      arrange();
    }

    function arrange() {
      if (!keys.has(state.column)) keys.set(state.column, keysOf(columns[state.column], count));
      const key = keys.get(state.column);
      const sign = state.descending ? -1 : 1;
      state.rows.sort((a, b) => {
        if (Number.isNaN(key[a]) || Number.isNaN(key[b])) return Number.isNaN(key[a]) - Number.isNaN(key[b]) || a - b;
        return sign * (key[a] - key[b]) || a - b;
      });
      heads.forEach((head, place) => {
        if (place === state.column) head.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
        else head.removeAttribute("aria-sort");
      });
      table.setAttribute("aria-rowcount", String(state.rows.length + 1));
      scroller.scrollTop = 0;
      render(true);
    }

    function render(anew) {
      const height = parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--row"));
      const inSight = Math.ceil(scroller.clientHeight / height) + 2 * SPARE;
      const first = Math.max(0, Math.min(Math.floor(scroller.scrollTop / height) - SPARE, state.rows.length - inSight));
      if (!anew && first === state.first) return;
      state.first = first;
      const shown = state.rows.slice(first, first + inSight);
      rows.replaceChildren(
        filler(first * height),
        ...shown.map((row, place) => line(row, first + place)),
        filler((state.rows.length - first - shown.length) * height),
      );
    }

    function filler(height) {
      return element("tr", { class: "filler", "aria-hidden": "true" },
        element("td", { colspan: columns.length, style: `height: ${height}px` }));
    }

    function line(row, place) {
      return element("tr", { "aria-rowindex": String(place + 2) }, ...columns.map((column, index) => {
        const text = column.text(row);
        const cell = element(index === 0 ? "th" : "td",
          { scope: index === 0 ? "row" : false, class: column.number ? "number" : false, title: index === 0 ? text : false });
        if (column.fill) column.fill(cell, row);
        else cell.append(text);
        return cell;
      }));
    }

    arrange();
    return (chosen) => {
      state.rows = chosen;
      arrange();
    };
  }

  return { add };
})();
