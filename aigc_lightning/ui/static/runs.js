// The panel Runs: what all runs below the folder are doing.
import { html, useEffect, useState } from "/static/lib/preact-htm.js";
import { address, get, usePolled } from "/static/api.js";
import { Chart } from "/static/chart.js";
import { Field, Frames } from "/static/parts.js";

const duration = (seconds) => {
  const minutes = Math.round(seconds / 60);
  return seconds < 90 ? `${Math.round(seconds)} s` : minutes < 90 ? `${minutes} min` : `${(minutes / 60).toFixed(1)} h`;
};
const short = (value) => (typeof value === "number" ? Number(value.toPrecision(5)) : value === null ? "nan" : String(value));

export function Runs() {
  const { answer: runs, error } = usePolled("/api/runs", null, 3);
  const [chosen, setChosen] = useState(null);
  const [compared, setCompared] = useState([]);
  const current = chosen ?? runs?.[0]?.run ?? null;
  const toggle = (run) => setCompared((old) => (old.includes(run) ? old.filter((name) => name !== run) : [...old, run]));
  if (!runs) return html`<p role="status">${error || "Reading the runs."}</p>`;
  if (!runs.length) return html`<p>There are no runs in this folder yet. Train one: <code>aigc fit --config dcgan_digits</code></p>`;
  return html`<div class="columns">
    <nav class="card" aria-label="Runs">
      <h2>Runs</h2>
      ${error && html`<p class="error" role="alert">${error}</p>`}
      <ul class="runs">${runs.map((run) => html`<li key=${run.run}>
        <input type="checkbox" aria-label=${`Compare ${run.run}`} checked=${compared.includes(run.run)} onChange=${() => toggle(run.run)} />
        <button aria-current=${run.run === current} onClick=${() => setChosen(run.run)}>${run.run}
          <span class=${`state ${run.state}`}> ${run.state}</span><br />
          <span class="dim">${run.model} · ${run.data} · step ${run.step}${run.steps ? ` of ${run.steps}` : ""}</span>
        </button></li>`)}</ul>
      <p class="dim">Ticked runs are drawn beside the chosen one.</p>
    </nav>
    ${current && html`<${Run} key=${current} name=${current} compared=${compared.filter((name) => name !== current)} all=${runs.map((run) => run.run)} />`}
  </div>`;
}

function Run({ name, compared, all }) {
  const { answer: run, error } = usePolled("/api/run", { run: name }, 3);
  return html`<div>
    <section class="card"><h2>${name}</h2>
      ${run ? html`<p role="status"><span class=${`state ${run.state}`}>${run.state}</span> · step ${run.step}${run.steps ? ` of ${run.steps}` : ""}
        ${run.eta !== null && run.eta !== undefined ? ` · about ${duration(run.eta)} left` : ""} · <span class="dim">${run.changed}</span></p>`
        : !error && html`<p role="status">Reading the run.</p>`}
      ${run?.steps && html`<progress aria-label="Steps" value=${Math.min(run.step, run.steps)} max=${run.steps} />`}
      ${error && html`<p class="error" role="alert">${error}</p>`}
    </section>
    <${Curves} names=${[name, ...compared]} step=${run?.step ?? 0} last=${run?.last ?? {}} />
    ${run && html`<${Rest} run=${run} all=${all} />`}
  </div>`;
}

function Rest({ run, all }) {
  const file = (path) => address("/api/file", { run: run.run, path });
  return html`${run.grids.length > 0 && html`<section class="card"><h2>Grids</h2>
      <${Frames} label="Step" follow urls=${run.grids.map(file)} names=${run.grids.map((path) => path.replace(/^.*step_0*(?=\d)/, "").replace(".png", ""))} />
      ${run.films.includes("timelapse.gif") && html`<p><a href=${file("timelapse.gif")} target="_blank">Timelapse</a></p>`}
    </section>`}
    <${Scores} run=${run} />
    <${Difference} name=${run.run} all=${all} />
    <section class="card"><h2>Log</h2><pre tabindex="0" aria-label="Log" class="log">${run.log || "Nothing yet."}</pre></section>
    <section class="card"><details><summary>Config</summary><pre tabindex="0" aria-label="Config">${run.config}</pre></details></section>`;
}

const newest = (series) => Math.max(-1, ...Object.values(series ?? {}).map(([steps]) => steps.at(-1) ?? -1));

function Curves({ names, step, last }) {
  const [series, setSeries] = useState({});
  const [kinds, setKinds] = useState(null);
  useEffect(() => {
    let over = false;
    const missing = names.filter((name, place) => !series[name] || (place === 0 && newest(series[name]) < step));
    Promise.all(missing.map(async (name) => [name, await get("/api/metrics", { run: name }).catch(() => ({}))]))
      .then((found) => over || !found.length || setSeries((old) => ({ ...old, ...Object.fromEntries(found) })));
    return () => { over = true; };
  }, [names.join("|"), step]);
  const metrics = [...new Set(names.flatMap((name) => Object.keys(series[name] ?? {})))];
  if (!metrics.length) return null;
  const losses = metrics.filter((name) => name.startsWith("train/") && name.endsWith("loss"));
  const shown = kinds ?? (losses.length ? losses : metrics.slice(0, 2));
  const tables = names.flatMap((name) => shown.filter((metric) => series[name]?.[metric])
    .map((metric) => [names.length > 1 ? `${name} ${metric}` : metric, ...series[name][metric]]));
  const toggle = (metric) => setKinds(shown.includes(metric) ? shown.filter((name) => name !== metric) : [...shown, metric]);
  return html`<section class="card"><h2>Curves</h2>
    <fieldset><legend>Shown</legend>${metrics.map((metric) => html`<label class="inline" key=${metric}>
      <input type="checkbox" checked=${shown.includes(metric)} onChange=${() => toggle(metric)} /> ${metric}
      <span class="dim">${metric in last ? short(last[metric]) : ""}</span></label>`)}</fieldset>
    <${Chart} tables=${tables} /></section>`;
}

function Scores({ run }) {
  if (!run.receipts.length && !run.reports.length) return null;
  const rows = (content) => (content.sections ?? []).flatMap((section) =>
    Object.entries(section.scores ?? {}).map(([key, value]) => [section.name ?? section.title ?? "", key, value]));
  return html`<section class="card"><h2>Scores and explanations</h2>
    ${run.receipts.map(({ file, content }) => html`<div key=${file} class="wide"><h3>${file}</h3>
      <table><tbody>${rows(content).map(([section, key, value]) => html`<tr><td>${section}</td><th scope="row">${key}</th><td>${short(value)}</td></tr>`)}</tbody></table>
      <details><summary>Receipt</summary><pre>${JSON.stringify(content, null, 2)}</pre></details></div>`)}
    ${run.reports.map((path) => html`<details key=${path}><summary>${path}</summary>
      <iframe title=${path} sandbox="" loading="lazy" src=${address("/api/file", { run: run.run, path })}></iframe></details>`)}
  </section>`;
}

function Difference({ name, all }) {
  const [other, setOther] = useState(""), [lines, setLines] = useState(null);
  const others = all.filter((run) => run !== name);
  useEffect(() => {
    if (other) get("/api/difference", { run: other, with: name }).then(setLines, (error) => setLines([error.message]));
    else setLines(null);
  }, [other, name]);
  if (!others.length) return null;
  const kind = (line) => (/^\+(?!\+\+)/.test(line) ? "added" : /^-(?!--)/.test(line) ? "removed" : "");
  return html`<section class="card"><h2>Differences in the config</h2>
    <${Field} label="Compared with" choices=${["", ...others]} value=${other} onValue=${setOther} />
    ${lines && (lines.length ? html`<pre tabindex="0" aria-label="Differences">${lines.map((line) => html`<span class=${kind(line)}>${line}${"\n"}</span>`)}</pre>`
      : html`<p>Both configs are the same.</p>`)}</section>`;
}
