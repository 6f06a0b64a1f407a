"use strict";
(() => {
  const content = JSON.parse(document.getElementById("viewer-content").textContent);
  const at = name => document.getElementById(name);
  const host = at("viewer");
  const canvas = document.createElement("canvas");
  if (!(canvas.getContext("webgl2") || canvas.getContext("webgl"))) {
    host.textContent = "This browser shows no three-dimensional pictures (WebGL is off).";
    host.className = "faint";
    host.dataset.state = "no WebGL";
    return;
  }
  const viewer = $3Dmol.createViewer(host, { backgroundColor: "white", antialias: true });
  const model = viewer.addModel();
  model.addAtoms(content.atoms);

  const volume = packed => {
    const bytes = Uint8Array.from(atob(packed.values), c => c.charCodeAt(0));
    const [x, y, z] = content.box.size, [ox, oy, oz] = content.box.origin, d = content.box.step;
    const data = new $3Dmol.VolumeData("", "none");
    data.size = { x, y, z };
    data.unit = { x: d, y: d, z: d };
    data.origin = { x: ox, y: oy, z: oz };
    data.data = Float32Array.from(bytes, b => packed.low + packed.scale * b);
    return data;
  };
  const maps = {};
  for (const name of ["map", "difference"]) {
    if (content[name]) maps[name] = { ...content[name], volume: volume(content[name]), shapes: [] };
  }
  const draw = (name, signs) => {
    const map = maps[name];
    map.shapes.forEach(shape => viewer.removeShape(shape));
    const level = map.level * map.sigma;
    map.shapes = signs.map(([sign, color]) => viewer.addIsosurface(map.volume, {
      isoval: sign * level, color, wireframe: true, linewidth: 1, smoothness: 1, opacity: 0.75,
    }));
    at(name + "-output").textContent = `${map.level.toFixed(2)} \u03c3, ${level.toFixed(2)} e/\u00c5\u00b3`;
  };
  const drawMap = () => draw("map", [[1, "#3a7fb5"]]);
  const drawDifference = () => draw(
    "difference", at("difference-shown").checked ? [[1, "#1b9e5a"], [-1, "#c23b32"]] : []);

  const drawAtoms = () => {
    const hydrogens = at("hydrogens-shown").checked;
    model.setStyle({}, { stick: { radius: 0.08, colorscheme: "Jmol" },
                         sphere: { scale: 0.14, colorscheme: "Jmol" } });
    model.setStyle({ elem: "Q" }, { sphere: { radius: 0.22, color: "#d9822b" } });
    model.setStyle({ elem: ["H", "D"] }, hydrogens
      ? { stick: { radius: 0.07, color: "#c8ced4" }, sphere: { radius: 0.14, color: "#dfe4e8" } }
      : {});
    viewer.removeAllLabels();
    if (at("labels-shown").checked) {
      content.atoms.filter(a => a.elem !== "H" && a.elem !== "D").forEach(a => viewer.addLabel(
        a.atom, { position: { x: a.x, y: a.y, z: a.z }, fontSize: 11, fontColor: "#1d2733",
                  backgroundColor: "white", backgroundOpacity: 0.6, inFront: true }));
    }
  };

  for (const [name, redraw] of [["map", drawMap], ["difference", drawDifference]]) {
    if (!maps[name]) { at(name + "-control").hidden = true; continue; }
    const slider = at(name + "-level");
    slider.max = maps[name].top;
    slider.value = maps[name].level;
    slider.oninput = () => { maps[name].level = +slider.value; redraw(); viewer.render(); };
    redraw();
  }
  at("difference-shown").onchange = () => { drawDifference(); viewer.render(); };
  at("labels-shown").onchange = at("hydrogens-shown").onchange = () => { drawAtoms(); viewer.render(); };
  at("spinning").onchange = event => viewer.spin(event.target.checked ? "y" : false, 0.5);
  if (!content.atoms.some(a => a.elem === "H" || a.elem === "D")) at("hydrogens-control").hidden = true;

  drawAtoms();
  viewer.zoomTo();
  viewer.zoom(1.25 * content.zoom);
  viewer.render();
  host.dataset.state = "drawn";
})();
