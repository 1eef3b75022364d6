(() => {
  "use strict";
  const page = JSON.parse(document.getElementById("figures").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const draw = async () => {
    const template = page.templates[dark.matches ? "dark" : "light"];
    for (const figure of page.figures) {
      // A drag scrolls the page until the reader asks for zooming; plotly changes what it is given.
      const layout = { ...structuredClone(figure.layout), template, dragmode: false };
      await Plotly.newPlot(figure.id, structuredClone(figure.data), layout, {
        displaylogo: false,
        modeBarButtons: [["toImage", "zoom2d", "resetScale2d"]],
        // Nothing is sent anywhere.
        plotlyServerURL: "",
        toImageButtonOptions: { filename: figure.id, scale: 2 },
      });
    }
  };

  // The number that a cell begins with: a true minus sign, and thin spaces between thousands.
  const NUMBER = /^[−-]?\d[\d\u202f]*(\.\d+)?(e[−+-]?\d+)?/;
  const numeric = (text) => {
    // A cell such as "L3H7 0.02" counts by the value behind the head.
    const found = text.replace(/^L\d+H\d+ /, "").match(NUMBER);
    return found ? Number(found[0].replaceAll("\u202f", "").replaceAll("−", "-")) : NaN;
  };
  const compare = (a, b) => {
    const [x, y] = [numeric(a), numeric(b)];
    if (!Number.isNaN(x) && !Number.isNaN(y)) return x - y;
    return a.localeCompare(b, undefined, { numeric: true });
  };
  const sortable = (table) => {
    const body = table.tBodies[0];
    if (body.rows.length < 2) return;
    const headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.title = "Sort by this column";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => {
        const falling = heading.getAttribute("aria-sort") === "ascending";
        for (const other of headings) other.removeAttribute("aria-sort");
        heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
        const text = (row) => row.cells[column].textContent;
        // What has no value stays below, whichever way the column is sorted.
        const rows = [...body.rows].sort((a, b) =>
          (text(a) === "–") - (text(b) === "–") || (falling ? -1 : 1) * compare(text(a), text(b)));
        body.append(...rows);
      });
    });
  };

  document.querySelectorAll("table").forEach(sortable);
  dark.addEventListener("change", draw);
  draw();
})();
