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
  dark.addEventListener("change", draw);
  draw();
})();
