// Curves over steps; drag to zoom, double-click to see all.
import { html, useEffect, useRef, useState } from "/static/lib/preact-htm.js";

const COLOURS = ["#3b82f6", "#f97316", "#10b981", "#a855f7", "#ef4444", "#14b8a6", "#eab308", "#ec4899"];
const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3]];

/** Columns of one table: the steps of all, and each one's values. Metrics of one run mostly have the same steps. */
function joined(tables) {
  if (!tables.length) return [[]];
  const [[first]] = tables;
  const alike = ([steps]) => steps.length === first.length && steps.every((step, place) => step === first[place]);
  return tables.every(alike) ? [first, ...tables.map(([, values]) => values)] : uPlot.join(tables);
}

/** Draw tables of [label, steps, values] into an element; returns the chart. */
export function draw(element, tables, logarithmic) {
  const style = getComputedStyle(element);
  const axis = { stroke: style.color, grid: { stroke: "#8884", width: 1 }, ticks: { stroke: "#8886", width: 1 } };
  const usable = (value) => (value !== null && (!logarithmic || value > 0) ? value : null);
  const data = joined(tables.map(([, steps, values]) => [steps, values.map(usable)]));
  const series = tables.map(([label], number) => ({
    label, stroke: COLOURS[number % COLOURS.length], dash: DASHES[Math.floor(number / COLOURS.length) % DASHES.length],
    width: 1.5, spanGaps: true, points: { show: data[0].length < 30 },
  }));
  return new uPlot({
    width: element.clientWidth, height: 280, scales: { x: { time: false }, y: { distr: logarithmic ? 3 : 1 } },
    axes: [axis, { ...axis, size: 64 }], series: [{ label: "step" }, ...series], cursor: { drag: { x: true, y: true } },
  }, data, element);
}

export function Chart({ tables }) {
  const box = useRef(), chart = useRef(null), [logarithmic, setLogarithmic] = useState(false);
  const names = tables.map(([name]) => name).join("|");
  const size = tables.reduce((sum, [, steps]) => sum + steps.length, 0);
  useEffect(() => {
    const kept = chart.current && chart.current.zoomed ? chart.current.scales.x : null;
    chart.current?.destroy();
    chart.current = draw(box.current, tables, logarithmic);
    chart.current.over.addEventListener("mouseup", () => { chart.current.zoomed = true; });
    chart.current.over.addEventListener("dblclick", () => { chart.current.zoomed = false; });
    if (kept) { chart.current.setScale("x", { min: kept.min, max: kept.max }); chart.current.zoomed = true; }
  }, [names, size, logarithmic]);
  useEffect(() => {
    const watcher = new ResizeObserver(() => chart.current?.setSize({ width: box.current.clientWidth, height: 280 }));
    watcher.observe(box.current);
    return () => { watcher.disconnect(); chart.current?.destroy(); };
  }, []);
  const all = () => { chart.current.zoomed = false; chart.current.setData(chart.current.data); };
  return html`<div><div ref=${box} role="img" aria-label=${`Curves: ${tables.map(([name]) => name).join(", ")}`}></div>
    <div class="row"><label class="inline"><input type="checkbox" checked=${logarithmic}
      onChange=${(event) => setLogarithmic(event.target.checked)} /> Log scale</label>
      <button onClick=${all}>Show all steps</button><span class="dim">Drag in the picture to zoom.</span></div></div>`;
}
