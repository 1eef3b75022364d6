(() => {
  "use strict";
  const view = JSON.parse(document.getElementById("attention-data").textContent);
  const place = document.querySelector(".texts");
  const make = (tag, parent, text = "") => {
    const node = document.createElement(tag);
    node.textContent = text;
    parent.append(node);
    return node;
  };
  const draw = () => view.contexts.forEach(({ label, tokens, patterns, note }, i) => {
    const side = make("div", place);
    make("bdi", make("h3", side), label);
    const box = make("div", side);
    box.className = "drawn";
    box.id = `text-${i + 1}`;
    // It puts tokens from left to right, whatever they are written in.
    const letter = tokens.slice(1).join("").match(/\p{L}/u)?.[0] ?? "";
    if (/[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]/.test(letter)) box.classList.add("from-right");
    if (note) make("p", side, note);
    const attention = patterns.map((text) => {
      const levels = atob(text);
      return tokens.map((_, q) =>
        tokens.map((_, k) => (k > q ? 0 : (levels.charCodeAt((q * (q + 1)) / 2 + k) / 255) ** 2)));
    });
    const headLabels = view.heads.map(([name, role]) => (role ? `${name} ${role}` : name));
    // Its matrices are [head, query, key]; tokens are HTML that is safe.
    CircuitsVis.render(box.id, CircuitsVis.AttentionPatterns, { tokens, attention, headLabels });
  });
  const packed = atob(document.getElementById("library").textContent);
  const bytes = Uint8Array.from(packed, (c) => c.charCodeAt(0));
  if (!window.DecompressionStream) { make("p", place, "This browser is too old to unpack circuitsvis."); return; }
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  new Response(stream).text().then((source) => {
    const script = document.createElement("script");
    // Runs only as it was hashed.
    script.textContent = source;
    document.head.append(script);
    draw();
  });
})();
