"use strict";
ltrsys.panel("classes", (body, _, run) => {
  const { element, table, counted, percent, SHOTS } = ltrsys;
  const searched = run.names.map((name, place) => `${name} ${run.lineages[place]}`.toLocaleLowerCase("en"));
  const chosen = new Set(SHOTS);
  const status = element("p", { class: "caption", role: "status" });
  const search = element("input", { type: "search", id: "class-filter", oninput: filter, placeholder: "name or group",
    autocomplete: "off", spellcheck: "false" });
  const groups = element("fieldset", {}, element("legend", {}, "Training images"));
  for (const shot of SHOTS) {
    const box = element("input", { type: "checkbox", checked: true, name: shot, onchange: () => {
      if (box.checked) chosen.add(shot); else chosen.delete(shot);
      filter();
    } });
    groups.append(element("label", {}, box, shot));
  }
  body.append(element("div", { class: "toolbar" }, element("label", { class: "grow" }, "Find", search), groups));

  const hasLineages = run.lineages.some((lineage) => lineage !== "");
  const show = table.add(body, { label: "Accuracy of every class", count: run.names.length, columns: [
    { title: "class", width: 12, text: (row) => run.names[row] },
    ...(hasLineages ? [{ title: "group", width: 9, text: (row) => run.lineages[row] }] : []),
    { title: "shot", width: 6, text: (row) => run.shots[row],
      fill: (cell, row) => cell.append(element("span", { class: `shot ${run.shots[row]}` }, run.shots[row])) },
    { title: "training", width: 6, number: (row) => run.trainImages[row], text: (row) => counted(run.trainImages[row]) },
    { title: run.split, width: 5, number: (row) => run.images[row], text: (row) => counted(run.images[row]) },
    ...run.classifiers.map((classifier) => ({
      title: classifier.label, width: Math.max(5.4, 0.55 * classifier.label.length + 2), number: (row) => classifier.accuracy[row],
      text: (row) => percent(classifier.accuracy[row]),
      fill: (cell, row) => {
        cell.append(percent(classifier.accuracy[row]));
        cell.classList.add("share");
        cell.style.setProperty("--share", `${classifier.accuracy[row] || 0}%`);
      },
    })),
  ] });
  body.append(status);
  filter();

  function filter() {
    const words = search.value.toLocaleLowerCase("en").split(/\s+/).filter(Boolean);
    const rows = [];
    searched.forEach((text, row) => {
      if (chosen.has(run.shots[row]) && words.every((word) => text.includes(word))) rows.push(row);
    });
    show(rows);
    status.textContent = `${counted(rows.length)} of ${counted(run.names.length)} classes`;
  }
});
