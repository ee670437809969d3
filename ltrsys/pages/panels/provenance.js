"use strict";
ltrsys.panel("provenance", (body, data) => {
  const { element } = ltrsys;
  body.append(
    element("dl", { class: "facts" }, ...data.facts.flatMap(({ name, value }) => [element("dt", {}, name), element("dd", {}, value)])),
    element("details", {}, element("summary", {}, "Every setting of the run"),
      element("pre", { tabindex: "0" }, data.config)));
});
