// The page: its tabs, and what it needs to know first.
import { html, render, useEffect, useState } from "/static/lib/preact-htm.js";
import { get } from "/static/api.js";
import { Tabs } from "/static/parts.js";
import { Data } from "/static/data.js";
import { Runs } from "/static/runs.js";
import { Train } from "/static/train.js";
import { Try } from "/static/try.js";

const PANELS = { Runs, Try, Data, Train };

function App() {
  const [start, setStart] = useState(null), [error, setError] = useState("");
  const [chosen, setChosen] = useState(Object.keys(PANELS).find((name) => `#${name}` === location.hash) ?? "Runs");
  useEffect(() => { get("/api/start").then(setStart, (problem) => setError(problem.message)); }, []);
  const choose = (name) => { setChosen(name); history.replaceState(null, "", `#${name}`); };
  const names = Object.keys(PANELS).filter((name) => name !== "Train" || start?.training);
  const Panel = PANELS[names.includes(chosen) ? chosen : "Runs"];
  return html`<header><h1>aigc</h1><${Tabs} label="Panels" names=${names} chosen=${chosen} onChosen=${choose} />
      <span class="dim">${start?.folder ?? ""}</span></header>
    <main role="tabpanel" aria-label=${chosen}>${error && html`<p class="error" role="alert">${error}</p>`}
      ${start && html`<${Panel} start=${start} />`}</main>`;
}

document.getElementById("app").replaceChildren();
render(html`<${App} />`, document.getElementById("app"));
