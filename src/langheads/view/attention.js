(() => {
  "use strict";
  const NAMES = { "\n": "⏎", "\t": "⇥", "\0": "␀" };
  // What shows as nothing or turns the order of what follows; joiners belong to their letters.
  const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\u{e0000}-\u{e007f}]/u;
  const PARTS = /( )|([^ ])/gu;

  const make = (tag, name, parent, text) => {
    const node = document.createElement(tag);
    if (name) node.className = name;
    if (text !== undefined) node.textContent = text;
    if (parent) parent.append(node);
    return node;
  };
  const markOf = (c) => NAMES[c] ?? `U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
  const visible = (label) =>
    [...label].map((c) => (c === " " ? "·" : HIDDEN.test(c) ? `[${markOf(c)}]` : c)).join("");

  // A label as it stands in the text: spaces get a faint dot, hidden characters a faint name.
  const fill = (node, label) => {
    let plain = "";
    const flush = () => { if (plain) node.append(plain); plain = ""; };
    for (const [c] of label.matchAll(PARTS)) {
      if (c === " ") { flush(); make("span", "space", node, c); continue; }
      if (!HIDDEN.test(c)) { plain += c; continue; }
      flush();
      make("span", "mark", node, markOf(c));
      if (c === "\n") node.append("\n");
    }
    flush();
  };

  const cell = (query, key) => (query * (query + 1)) / 2 + key;
  // Weights come in 255 steps of their square root, which gives large ones no third decimal.
  const number = (value) => value.toFixed(value < 0.05 ? 3 : 2);

  const draw = (box, view) => {
    let head = 0, reversed = false, rescaled = false;
    // What is pointed at: tokens, unless they were joined.
    const unit = view.contexts.every(({ note }) => note.includes("joined to words")) ? "word" : "token";
    const bar = make("div", "bar", box);
    bar.setAttribute("role", "group");
    bar.setAttribute("aria-label", "Heads");
    const buttons = view.heads.map(([name, role, score], i) => {
      const button = make("button", "head", bar, name);
      button.type = "button";
      const more = [role, score === null ? "" : score.toPrecision(2)].filter(Boolean).join(" ");
      if (more) { button.append(" "); make("bdi", "", make("small", "", button), more); }
      button.addEventListener("click", () => { head = i; refresh(); });
      return button;
    });
    if (view.score) make("small", "", bar, `number: ${view.score}`);
    const ways = make("div", "bar", box);
    const directions = [`what the marked ${unit} looks at`, `what looks at the marked ${unit}`].map((text, i) => {
      const button = make("button", "way", ways, text);
      button.type = "button";
      button.addEventListener("click", () => { reversed = i === 1; refresh(); });
      return button;
    });
    const rest = make("button", "rest", ways, `without the first ${unit}`);
    rest.type = "button";
    rest.title = `Many heads rest on the first ${unit}; without it, the strongest of the others is shaded fully`;
    rest.addEventListener("click", () => { rescaled = !rescaled; refresh(); });
    const texts = make("div", "texts", box);

    const contexts = view.contexts.map((context) => {
      const size = context.tokens.length;
      const side = make("div", "", texts);
      make("bdi", "", make("h3", "", side), context.label);
      const text = make("p", "text", side);
      text.tabIndex = 0;
      text.setAttribute("aria-label", `Text; arrow keys move the marked ${unit}`);
      const units = context.tokens.map((label, i) => {
        // Names such as <bos> are no part of the text and must not decide its direction.
        const named = i === 0 && /^(<bos>|…)$/.test(label);
        const unit = make(named ? "bdi" : "span", "unit", text);
        unit.dataset.i = i;
        if (named) make("span", "mark", unit, label); else fill(unit, label);
        return unit;
      });
      for (const [s, [, start, stop]] of context.spans.entries()) {
        for (const unit of units.slice(start, stop)) unit.style.boxShadow = `inset 0 -3px var(--s${s % 4})`;
      }
      const said = make("p", "said", side);
      const list = make("ol", "", side);
      const sums = make("p", "said", side);
      if (context.note) make("p", "note", side, context.note);
      const decoded = new Map();
      // The right arrow key goes on in the text, or back where the text runs to the left.
      const first = context.tokens.slice(1).join("").match(/\p{L}/u)?.[0] ?? "";
      const onward = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]/.test(first) ? -1 : 1;
      let locked = size - 1, marked = locked;

      const values = () => {
        if (!decoded.has(head)) {
          const bytes = Uint8Array.from(atob(context.patterns[head]), (c) => c.charCodeAt(0));
          decoded.clear();
          decoded.set(head, bytes);
        }
        const levels = decoded.get(head);
        return context.tokens.map((_, i) => {
          const [query, key] = reversed ? [i, marked] : [marked, i];
          return key > query ? null : (levels[cell(query, key)] / 255) ** 2;
        });
      };
      const strongest = () => Math.max(0, ...values().slice(1));
      const show = (full) => {
        const found = values(), least = rescaled ? 1 : 0;
        found.forEach((value, i) => {
          const { classList, style } = units[i];
          // On the square root, as stored: beside a weight of 1 the small ones stay visible.
          style.setProperty("--a", value === null || i < least ? 0 : Math.sqrt(value / full).toFixed(3));
          classList.toggle("unseen", value === null);
          classList.toggle("from", i === marked);
        });
        const order = found.map((value, i) => [value ?? 0, i]).slice(least).sort((a, b) => b[0] - a[0]);
        said.replaceChildren(`${view.heads[head][0]}, ${unit} `);
        make("bdi", "", said, visible(context.tokens[marked]));
        said.append(reversed ? " is looked at most by" : " looks most at");
        list.replaceChildren();
        for (const [value, i] of order.slice(0, 5)) {
          if (value < 0.0005) break;
          const item = make("li", "", list);
          make("bdi", "", item, visible(context.tokens[i]));
          make("span", "", item, number(value));
          make("i", "", item).style.setProperty("--a", value);
        }
        if (!list.childNodes.length) make("li", "", list, "nothing above 0.0005");
        sums.replaceChildren();
        for (const [s, [label, start, stop]] of context.spans.entries()) {
          const key = make("bdi", "key", sums, visible(label));
          key.style.borderColor = `var(--s${s % 4})`;
          const part = found.slice(start, stop).map((value) => value ?? 0);
          // Looking at a stretch adds up; being looked at from a stretch is a mean over it.
          const sum = part.reduce((a, b) => a + b, 0);
          key.append(` ${number(reversed ? sum / part.length : sum)}`);
        }
      };
      const mark = (i, lock) => {
        if (lock) locked = i;
        if (i !== marked) { marked = i; showAll(); }
      };
      const unitAt = (event) => event.target.closest?.(".unit");
      text.addEventListener("pointerover", (event) => {
        const unit = unitAt(event);
        if (unit) mark(Number(unit.dataset.i), false);
      });
      text.addEventListener("click", (event) => {
        const unit = unitAt(event);
        if (unit) mark(Number(unit.dataset.i), true);
      });
      text.addEventListener("pointerleave", () => mark(locked, false));
      text.addEventListener("keydown", (event) => {
        const step = { ArrowUp: -1, ArrowDown: 1, ArrowLeft: -onward, ArrowRight: onward }[event.key];
        if (!step) return;
        event.preventDefault();
        mark(Math.min(size - 1, Math.max(0, marked + step)), true);
      });
      return { strongest, show, size, context };
    });

    // One scale for texts side by side, so that the same shade is the same weight.
    const showAll = () => {
      const full = (rescaled && Math.max(...contexts.map(({ strongest }) => strongest()))) || 1;
      contexts.forEach(({ show }) => show(full));
    };

    const refresh = () => {
      buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(i === head)));
      rest.setAttribute("aria-pressed", String(rescaled));
      directions.forEach((button, i) => button.setAttribute("aria-pressed", String((i === 1) === reversed)));
      showAll();
      contexts.forEach(({ zoom }) => zoom?.());
    };
    refresh();
    make("p", "note", box, `Point at a ${unit}, or click to keep it marked. Shading grows with the square root of the weight.`);

    // A pixel a pair of words; as stored, on the square root, so that small weights are seen.
    const paint = (canvas, { size, context }, i) => {
      const levels = atob(context.patterns[i]), pen = canvas.getContext("2d");
      const colour = getComputedStyle(box).getPropertyValue("--cell").trim().split(" ").map(Number);
      canvas.width = canvas.height = size;
      const image = pen.createImageData(size, size);
      for (let q = 0; q < size; q++)
        for (let k = 0; k <= q; k++)
          image.data.set([...colour, levels.charCodeAt(cell(q, k))], 4 * (q * size + k));
      pen.putImageData(image, 0, 0);
      canvas.onpointermove = (event) => {
        const [q, k] = [event.offsetY / canvas.clientHeight, event.offsetX / canvas.clientWidth].map((at) =>
          Math.min(size - 1, Math.max(0, Math.floor(at * size))));
        const value = k > q ? "sees nothing of" : `${number((levels.charCodeAt(cell(q, k)) / 255) ** 2)} at`;
        canvas.title = `${visible(context.tokens[q])} looks ${value} ${visible(context.tokens[k])}`;
      };
    };
    contexts.forEach((of) => {
      const folded = make("details", "", box);
      const summary = make("summary", "", folded, "All heads as matrices: ");
      make("bdi", "", summary, of.context.label);
      const place = make("div", "matrices", folded);
      folded.addEventListener("toggle", () => {
        if (place.firstChild) return;
        const add = (parent, i) => {
          const figure = make("figure", "", parent);
          const canvas = make("canvas", "", figure);
          paint(canvas, of, i);
          return [canvas, make("figcaption", "", figure, view.heads[i][0])];
        };
        const small = make("div", "", place);
        view.heads.forEach((_, i) => { add(small, i)[0].onclick = () => { head = i; refresh(); }; });
        const [canvas, name] = add(place, head);
        of.zoom = () => { paint(canvas, of, head); name.textContent = view.heads[head][0]; };
      });
    });
  };

  const views = JSON.parse(document.getElementById("attention-data").textContent);
  document.querySelectorAll(".attention").forEach((box, i) => {
    box.id = `attention-${i + 1}`;
    draw(box, views[i]);
  });
})();
