// The panel Train: a run from a preset, and its end. Only with `aigc ui --allow-training`.
import { html, useEffect, useState } from "/static/lib/preact-htm.js";
import { post, useJob, usePolled } from "/static/api.js";
import { Command, Field, JobState } from "/static/parts.js";

const written = (value) => (value === null || value === undefined ? "null" : typeof value === "object" ? JSON.stringify(value) : String(value));

export function Train({ start }) {
  const [preset, setPreset] = useState(""), [changed, setChanged] = useState({}), [message, setMessage] = useState("");
  const [form, read, cancel] = useJob();
  const { answer: status } = usePolled("/api/training", null, 2);
  useEffect(() => { setChanged({}); if (preset) read("/api/training/form", { preset }); }, [preset]);
  const begin = async (event) => {
    event.preventDefault();
    try {
      const { started, waiting } = await post("/api/training/start", { preset, options: changed });
      setMessage(started ? `Started: ${started}` : `Waits for the current run: ${waiting}`);
    } catch (error) {
      setMessage(error.message);
    }
  };
  const fields = form?.state === "done" ? form.answer : null;
  const sections = fields ? [...new Set(Object.keys(fields).map((name) => name.split(".")[0]))] : [];
  const field = (name) => html`<${Field} key=${name} label=${name} value=${changed[name] ?? written(fields[name])} onValue=${(value) => {
    const { [name]: _, ...rest } = changed;
    setChanged(value === written(fields[name]) ? rest : { ...rest, [name]: value });
  }} />`;
  return html`<div class="columns"><form class="card" onSubmit=${begin}><h2>New run</h2>
      <${Field} label="Preset" choices=${["", ...start.presets]} value=${preset} onValue=${setPreset} />
      ${!fields && html`<${JobState} job=${form} cancel=${cancel} />`}
      ${sections.map((section) => html`<details key=${section} open=${section === "model" || section === "trainer"}><summary>${section}</summary>
        ${Object.keys(fields).filter((name) => name.split(".")[0] === section).map(field)}</details>`)}
      ${fields && html`<div class="row"><button class="main">Start</button></div>`}
      <p role="status">${message}</p></form>
    <section class="card"><h2>Current run</h2>
      <p role="status">${status?.current ? `${status.current} is running.` : "None."} ${status?.waiting ? `${status.waiting} waits.` : ""}</p>
      ${status?.current && html`<button onClick=${() => post("/api/training/stop")}>Save and stop</button>`}
      ${status?.printed && html`<pre tabindex="0" aria-label="Printed">${status.printed}</pre>`}
      <${Command} text=${status?.command} /></section></div>`;
}
