(() => {
  "use strict";
  const page = JSON.parse(document.getElementById("figures").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const phone = window.matchMedia("(max-width: 40rem)");
  const plots = [...document.querySelectorAll("[data-figure]")];
  const axes = (layout, letter) => Object.keys(layout).filter((key) => RegExp(`^${letter}axis\\d*$`).test(key));
  const near = (a, b) => Math.abs(a - b) < 0.01;

  // In lines of so many letters; names come escaped, and an entity is not torn. A window may have
  // no width for a moment, while it is hidden or its picture is taken.
  const wrapped = (text, letters) => {
    const lines = [""], most = Math.max(1, letters);
    for (const word of text.split(" "))
      for (const part of word.includes("&") ? [word] : (word.match(RegExp(`.{1,${most}}`, "gu")) ?? []))
        if (!lines.at(-1) || lines.at(-1).length + part.length < most) lines[lines.length - 1] += (lines.at(-1) && " ") + part;
        else lines.push(part);
    return lines;
  };

  // Leaves numbers out that would run into others on an axis of so many pixels; 0 stays.
  const thinned = (axis, pixels) => {
    if (!axis.range || !axis.ticktext?.every((text) => /^[−\d.e]+$/.test(text))) return;
    const values = Array.from(axis.tickvals), kept = [];
    const of = pixels / (axis.range[1] - axis.range[0]);
    for (const value of values.toSorted((a, b) => (a !== 0) - (b !== 0) || Math.abs(b) - Math.abs(a)))
      if (kept.every((other) => Math.abs(value - other) * of > 44)) kept.push(value);
    const stays = values.map((value) => kept.includes(value));
    [axis.tickvals, axis.ticktext] = [values, axis.ticktext].map((all) => all.filter((_, i) => stays[i]));
  };

  // Wraps the title; returns the pixels that it needs more.
  const titleIn = ({ title }, room) => {
    const lines = wrapped(title.text, Math.floor(room / 8.5));
    title.text = lines.join("<br>");
    if (!title.subtitle?.text) return 19 * (lines.length - 1);
    const more = wrapped(title.subtitle.text, Math.floor(room / 7));
    title.subtitle.text = more.join("<br>");
    return 19 * (lines.length - 1) + 16 * (more.length - 1);
  };

  const axisOf = (trace) => `xaxis${(trace.xaxis ?? "x").slice(1)}`;
  // Pixels across that the numbers in the cells of a panel need.
  const needed = ({ data, layout }, key) => {
    const [from, to] = layout[key].range ?? [0, Infinity];
    const numbers = data.filter((trace) => trace.mode === "text" && axisOf(trace) === key);
    return Math.max(0, ...numbers.map(({ text, textfont }) =>
      (to - from) * (4 + 0.6 * textfont.size * Math.max(...text.map((of) => of.length)))));
  };

  // Pixels that panels which are so wide together lack for their numbers; none where it is negative.
  const lacking = (figure, panels) => Math.max(...axes(figure.layout, "x").map((key) => {
    const [from, to] = figure.layout[key].domain ?? [0, 1];
    return needed(figure, key) / (to - from) - panels;
  }));

  // A little too wide for its place: its panels give way, as far as their numbers have room.
  const squeezed = (figure, room) => {
    const { layout } = figure, panels = room - layout.margin.l - layout.margin.r;
    if (layout.width > 1.3 * room || lacking(figure, panels) > 0) return;
    layout.width = room;
    const more = titleIn(layout, room);
    layout.margin.t += more;
    layout.height += more;
  };

  // The same figure for a narrow window: its panels one below the other, as narrow as they can be,
  // its legend below, its titles in several lines.
  const narrowed = (figure, room) => {
    const { data, layout } = figure, { margin } = layout;
    const [wide, high] = [layout.width - margin.l - margin.r, layout.height - margin.t - margin.b];
    const bars = Object.keys(layout).filter((key) => /^coloraxis\d*$/.test(key));
    const right = bars.length ? 96 : 16;
    // A grid may have places without a panel.
    const used = new Set(data.map(axisOf));
    const panels = axes(layout, "x").filter((key) => used.has(key)).map((key) => {
      const x = layout[key], y = layout[`yaxis${(x.anchor ?? "y").slice(1)}`];
      const [across, up] = [x.domain ?? [0, 1], y.domain ?? [0, 1]];
      const width = (across[1] - across[0]) * wide;
      return {
        x, y, across, up, height: (up[1] - up[0]) * high,
        width: Math.min(width, Math.max(170, needed(figure, key), room - margin.l - right)),
      };
    }).sort((a, b) => b.up[1] - a.up[1] || a.across[0] - b.across[0]);
    // Lines of titles come to what a panel had above it and below.
    const lines = ({ text }) => text.split("<br>").length;
    const broken = (title, most) => {
      if (!title?.text) return [title, 0];
      const made = { ...title, text: title.text.split("<br>").flatMap((part) => wrapped(part, Math.floor(most))).join("<br>") };
      return [made, lines(made) - lines(title)];
    };
    const width = Math.max(...panels.map((panel) => panel.width));
    const titled = (panel, letter, place) => panel[letter].title?.text ? panel[letter].title
      : panels.find((other) => near(other[place][0], panel[place][0]) && other[letter].title?.text)?.[letter].title;
    let [top, over, under] = [0, 0, 0];
    for (const panel of panels) {
      const [below, more] = broken(titled(panel, "x", "across"), (panel.width + 2 * Math.min(margin.l, right)) / 7.5);
      panel.titles = [below, titled(panel, "y", "up")];
      under = Math.max(under, 18 * more);
    }
    for (const annotation of layout.annotations ?? []) {
      const panel = annotation.yref === "paper" && panels.find(({ across, up }) =>
        near((across[0] + across[1]) / 2, annotation.x) && near(up[1], annotation.y));
      if (!panel) continue;
      const size = annotation.font?.size ?? 12;
      const [{ text }, more] = broken(annotation, (panel.width + right) / (0.6 * size));
      panel.heading = Object.assign(annotation, { x: 0, xanchor: "left", align: "left", text });
      over = Math.max(over, 1.3 * size * more);
    }
    const gap = margin.b + 30 + over + under;
    const height = panels.reduce((sum, panel) => sum + panel.height + gap, -gap);
    for (const panel of panels) {
      panel.top = 1 - top / height;
      if (panel.heading) panel.heading.y = panel.top;
      top += panel.height + gap;
    }
    for (const key of bars) {
      const bar = layout[key].colorbar;
      const panel = panels.find(({ across }) => near(across[1], bar.x ?? 1)) ?? panels[0];
      const of = bars.length > 1 ? panel : panels[0];
      Object.assign(bar, { x: of.width / width, y: of.top, yanchor: "top", });
    }
    for (const { x, y, width: own, height: tall, top: upper, titles } of panels) {
      thinned(x, own);
      while (x.dtick && x.range && (x.range[1] - x.range[0]) / x.dtick > own / 26) x.dtick *= 2;
      Object.assign(x, { domain: [0, own / width], showticklabels: true, title: titles[0], nticks: x.nticks ?? 5 });
      Object.assign(y, { domain: [upper - tall / height, upper], showticklabels: true, title: titles[1] });
    }
    const entries = layout.showlegend === false ? [] : data.filter((trace) => trace.name && trace.type !== "heatmap" && trace.showlegend !== false);
    const each = 44 + 7 * Math.max(0, ...entries.map((trace) => trace.name.length));
    const rows = Math.ceil(entries.length / Math.max(1, Math.floor((width + margin.l) / each)));
    const legendAbove = (layout.legend?.y ?? 0) > 1 ? 26 : 0;
    layout.legend = {
      ...layout.legend, orientation: "h", x: -margin.l / width, xanchor: "left",
      y: -(margin.b + under + 4) / height, yanchor: "top", yref: "paper",
    };
    const above = margin.t - legendAbove + over + titleIn(layout, room);
    layout.margin = { ...margin, t: above, r: right, b: margin.b + under + 20 * rows + 8 };
    layout.width = margin.l + width + right;
    layout.height = above + height + layout.margin.b;
  };

  // --- A head that was clicked on, in every figure ---
  const HEAD = /^L(\d+)H(\d+)$/;
  const note = document.createElement("div");
  note.className = "head-note";
  note.setAttribute("role", "status");
  let marked = "", from = null;
  const named = (plot, trace, i) => {
    const y = trace.y?.[i], ticks = plot._fullLayout[`yaxis${(trace.yaxis ?? "y").slice(1)}`]?.ticktext;
    return [trace.hovertext?.[i], y, ticks?.[y]].find((name) => HEAD.test(name));
  };
  const isMap = (plot) => plot.layout.meta?.heads === "map";
  const places = (plot, trace) => {
    if (trace.type === "heatmap") {
      const [, layer, head] = marked.match(HEAD);
      return isMap(plot) ? [[Number(head), Number(layer)]] : [];
    }
    if (isMap(plot)) return [];
    return [...(trace.x ?? []).keys()].filter((i) => named(plot, trace, i) === marked).map((i) => [trace.x[i], trace.y[i]]);
  };
  const mark = (plot) => {
    const rings = marked ? plot._fullData.flatMap((trace) => places(plot, trace).flatMap(([x, y]) =>
      // White within black stands out from every cell and page.
      [["black", 6], ["white", 2.5]].map(([color, width]) => ({
        type: "circle", xref: trace.xaxis, yref: trace.yaxis, xsizemode: "pixel", ysizemode: "pixel",
        xanchor: x, yanchor: y, x0: -9, x1: 9, y0: -9, y1: 9, line: { color, width }, name: marked,
      })))) : [];
    if (rings.length || plot.layout.shapes.length !== plot.shapesBefore.length)
      return Plotly.relayout(plot, { shapes: [...plot.shapesBefore, ...rings] });
  };
  const inTables = () => {
    if (!window.Highlight) return;
    const ranges = [], texts = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
    while (marked && texts.nextNode()) {
      const node = texts.currentNode;
      if (!node.parentElement.closest("table")) continue;
      for (const found of node.data.matchAll(RegExp(`\\b${marked}\\b`, "g"))) {
        const range = new Range();
        range.setStart(node, found.index);
        range.setEnd(node, found.index + marked.length);
        ranges.push(range);
      }
    }
    CSS.highlights.set("head", new Highlight(...ranges));
  };
  const button = (text, act) => {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = text;
    made.addEventListener("click", act);
    return made;
  };
  const choose = (name, plot) => {
    [marked, from] = [name === marked ? "" : name, plot];
    plots.forEach(mark);
    inTables();
    note.remove();
    if (!marked) return;
    note.replaceChildren(`${marked} is marked in every figure and table.`);
    const shown = [...document.querySelectorAll(".attention button.head")].filter((each) => each.firstChild.data === marked);
    shown.forEach((each) => each.click());
    if (shown.length) {
      note.append(button("back", () => from.scrollIntoView({ block: "center" })));
      shown[0].scrollIntoView({ block: "start" });
    }
    note.append(button("unmark", () => choose(marked, from)));
    document.body.append(note);
  };

  const draw = async () => {
    const theme = dark.matches ? "dark" : "light";
    for (const plot of plots) {
      // A drag scrolls the page until the reader asks for zooming; plotly changes what it is given.
      const figure = structuredClone(page.figures.find(({ id }) => id === plot.dataset.figure));
      for (const trace of figure.data) if (trace.meta?.[theme]) trace.textfont.color = trace.meta[theme];
      const room = plot.closest("section").clientWidth;
      if (figure.layout.width > room) (phone.matches ? narrowed : squeezed)(figure, room);
      plot.style.width = `${figure.layout.width}px`;
      plot.style.height = `${figure.layout.height}px`;
      const layout = { ...figure.layout, template: page.templates[theme], dragmode: false };
      await Plotly.newPlot(plot, figure.data, layout, {
        displaylogo: false,
        displayModeBar: phone.matches ? false : "hover",
        modeBarButtons: [["toImage", "zoom2d", "resetScale2d"]],
        // Nothing is sent anywhere.
        plotlyServerURL: "",
        toImageButtonOptions: { filename: figure.id, scale: 2 },
      });
      // What the margins took for a colour bar, say.
      const more = lacking(figure, plot._fullLayout._size.w);
      if (more > 0) {
        plot.style.width = `${layout.width + more}px`;
        await Plotly.relayout(plot, { width: layout.width + more });
      }
      plot.layout.shapes ??= [];
      plot.shapesBefore = plot.layout.shapes;
      plot.removeAllListeners("plotly_click");
      plot.on("plotly_click", ({ points: [point] }) => {
        const name = isMap(plot) && point.data.type === "heatmap" ? `L${point.y}H${point.x}`
          : named(plot, point.fullData, point.pointNumber);
        if (name) choose(name, plot);
      });
      if (marked) await mark(plot);
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

  // What is wider than its box says so, and fades where there is more of it.
  const cue = (box) => {
    const hidden = box.scrollWidth - box.clientWidth;
    box.previousElementSibling.classList.toggle("on", hidden > 2);
    box.classList.toggle("more", hidden > 2 && box.scrollLeft < hidden - 2);
  };
  const resized = new ResizeObserver((entries) => entries.forEach(({ target }) => cue(target.closest(".scroll"))));
  for (const box of document.querySelectorAll(".scroll")) {
    resized.observe(box);
    resized.observe(box.firstElementChild);
    box.addEventListener("scroll", () => cue(box), { passive: true });
  }
  document.addEventListener("toggle", (event) => event.target.querySelectorAll(".scroll").forEach(cue), true);

  // Beside the page where there is room, else folded above it.
  const wide = window.matchMedia("(min-width: 75rem)"), sections = document.querySelector("nav details");
  const fold = () => { sections.open = wide.matches; };
  sections.addEventListener("click", (event) => { if (event.target.closest("a")) fold(); });
  wide.addEventListener("change", fold);
  fold();

  for (const change of [dark, phone]) change.addEventListener("change", draw);
  draw();
})();
