// The panel Data: a look at any data.
import { html, useState } from "/static/lib/preact-htm.js";
import { result, useJob } from "/static/api.js";
import { Command, Field, JobState } from "/static/parts.js";

export function Data({ start }) {
  const [values, setValues] = useState({ data: "digits", num: "" }), [text, setText] = useState(""), [problem, setProblem] = useState("");
  const [job, begin, cancel] = useJob();
  const look = (action) => {
    const lines = text.split("\n").map((line) => line.trim()).filter(Boolean);
    const wrong = lines.find((line) => !/^[\w.]+\s*=/.test(line));
    setProblem(wrong ? `Write NAME = VALUE instead of ${wrong}` : "");
    if (wrong) return;
    const options = Object.fromEntries(lines.map((line) => [line.split("=")[0].trim(), line.slice(line.indexOf("=") + 1).trim()]));
    begin("/api/data", { action, data: values.data, options, ...(values.num ? { num: Number(values.num) } : {}) });
  };
  const picture = job?.state === "done" && job.files.find((name) => name.endsWith(".png"));
  return html`<div class="columns"><section class="card"><h2>Data</h2>
      <${Field} label="Data or preset" value=${values.data} list="known-data" onValue=${(data) => setValues({ ...values, data })} />
      <datalist id="known-data">${[...start.data, ...start.presets].map((name) => html`<option value=${name} />`)}</datalist>
      <${Field} label="Options, one in each line, such as root = pictures" kind="text" value=${text} onValue=${setText} />
      <${Field} label="How many images (empty: a usual number)" inputmode="numeric" value=${values.num} onValue=${(num) => setValues({ ...values, num })} />
      <div class="row">${["preview", "check", "stats"].map((action) => html`<button class="main" onClick=${() => look(action)}>${action[0].toUpperCase() + action.slice(1)}</button>`)}</div>
      ${problem && html`<p class="error" role="alert">${problem}</p>`}<${JobState} job=${job} cancel=${cancel} />
      <p class="dim">Folders are read below that of the runs and below those given with <code>aigc ui --data</code>.</p></section>
    <section class="card" aria-label="Result">${picture && html`<img src=${result(job, picture)} alt="Picture of the data" />`}
      ${job?.state === "done" && (typeof job.answer === "string" ? html`<p>${job.answer}</p>` : html`<${Report} report=${job.answer} />`)}
      <${Command} text=${job?.command} /></section></div>`;
}

function Report({ report }) {
  const cell = (value) => (value === null || typeof value !== "object" ? String(value)
    : Object.keys(value).length ? html`<pre>${JSON.stringify(value, null, 1)}</pre>` : "none");
  return html`<div class="wide"><table><tbody>${Object.entries(report).map(([key, value]) => html`<tr key=${key}>
    <th scope="row">${key.replaceAll("_", " ")}</th><td>${cell(value)}</td></tr>`)}</tbody></table></div>`;
}
