// The panel Try: samples, walks, edits and searches.
import { html, useEffect, useState } from "/static/lib/preact-htm.js";
import { get, result, useJob } from "/static/api.js";
import { Edit } from "/static/edit.js";
import { Command, Field, Frames, JobState, Options, Picture, Tabs } from "/static/parts.js";

export function Try({ start }) {
  const [checkpoints, setCheckpoints] = useState(null), [checkpoint, setCheckpoint] = useState("");
  const [about, describe, cancel] = useJob(), [action, setAction] = useState("Sample");
  useEffect(() => { get("/api/checkpoints").then(setCheckpoints, () => setCheckpoints([])); }, []);
  useEffect(() => { if (checkpoint && !start.addresses) describe("/api/describe", { checkpoint }); }, [checkpoint]);
  if (!checkpoints) return html`<p role="status">Looking for checkpoints.</p>`;
  const model = about?.state === "done" ? about.answer : null;
  const actions = [model?.sample && "Sample", model?.walk && "Walk", model?.edit && "Edit", "Search"].filter(Boolean);
  const shown = actions.includes(action) ? action : actions[0];
  const forms = { Sample, Walk, Edit, Search }, Form = forms[shown];
  return html`<div>
    <section class="card"><h2>Model</h2>
      ${start.addresses ? html`<${Field} label="Checkpoint: a path below the folder, or an address" value=${checkpoint} onValue=${setCheckpoint} list="checkpoints" />
        <datalist id="checkpoints">${checkpoints.map((path) => html`<option value=${path} />`)}</datalist>
        <button onClick=${() => describe("/api/describe", { checkpoint })}>Load</button>`
      : html`<${Field} label="Checkpoint" choices=${["", ...checkpoints]} value=${checkpoint} onValue=${setCheckpoint} />`}
      ${model ? html`<p class="dim">${model.name}, ${model.size.join(" × ")} pixels${model.step ? `, step ${model.step}` : ""}, SHA-256 ${model.sha256}…</p>`
        : html`<${JobState} job=${about} cancel=${cancel} />`}
    </section>
    <${Tabs} label="What to do" names=${Object.keys(forms)} enabled=${actions} chosen=${shown} onChosen=${setAction} />
    <${Form} key=${checkpoint + shown} checkpoint=${checkpoint} model=${model} />
  </div>`;
}

function Conditions({ model, values, set }) {
  const { classes, prompts } = model.sample ?? {};
  return html`${classes?.length > 0 && html`<${Field} label="Class" choices=${["", ...classes]} value=${values.class ?? ""} onValue=${(text) => set({ class: text })} />`}
    ${prompts && html`<${Field} label="Prompts, one in each line" kind="text" value=${values.prompts ?? ""} onValue=${(text) => set({ prompts: text })} />`}`;
}

function Sample({ checkpoint, model }) {
  const [values, setValues] = useState({ seeds: "0-15" }), [options, setOptions] = useState({});
  const [job, start, cancel] = useJob();
  const set = (some) => setValues((old) => ({ ...old, ...some }));
  const submit = (event) => { event.preventDefault(); start("/api/sample", { checkpoint, ...values, options }); };
  const pictures = job?.state === "done" ? job.files.filter((name) => name !== "grid.png") : [];
  return html`<div class="columns"><form class="card" onSubmit=${submit}>
      <${Field} label="Seeds, such as 0-15 or 3,7,20" value=${values.seeds} onValue=${(seeds) => set({ seeds })} />
      <${Conditions} model=${model} values=${values} set=${set} />
      <${Options} options=${model.sample.options} values=${options} onValues=${setOptions} />
      <div class="row"><button class="main">Sample</button></div><${JobState} job=${job} cancel=${cancel} /></form>
    <section class="card" aria-label="Result">${pictures.length > 0 && html`<h2>Samples</h2>
      <div class="pictures">${pictures.map((name) => html`<a key=${job.id + name} href=${result(job, name)} download=${name}>
        <img class="pixels" src=${result(job, name)} alt=${`Sample ${name}`} />${name.replace(/^0+(?=\d)/, "").replace(".png", "")}</a>`)}</div>
      <p><a href=${result(job, "grid.png")} download="grid.png">Download the grid</a>
        <span class="dim"> Each file says by which model and from which seed it was made.</span></p>`}
      <${Command} text=${job?.command} /></section></div>`;
}

function Walk({ checkpoint, model }) {
  const [values, setValues] = useState({ from: "0", to: "1", frames: 16, space: "" }), [options, setOptions] = useState({});
  const [job, start, cancel] = useJob();
  const set = (some) => setValues((old) => ({ ...old, ...some }));
  const submit = (event) => {
    event.preventDefault();
    const { from, to, ...others } = values;
    start("/api/walk", { checkpoint, seeds: `${from},${to}`, ...others, options });
  };
  const frames = job?.state === "done" ? job.files : [];
  return html`<div class="columns"><form class="card" onSubmit=${submit}>
      <${Field} label="From seed" inputmode="numeric" value=${values.from} onValue=${(from) => set({ from })} />
      <${Field} label="To seed" inputmode="numeric" value=${values.to} onValue=${(to) => set({ to })} />
      <${Field} label="Frames" type="number" min="2" max="60" value=${values.frames} onValue=${(frames) => set({ frames: Number(frames) })} />
      ${model.walk.spaces.length > 0 && html`<${Field} label="Space" choices=${["", ...model.walk.spaces]} value=${values.space} onValue=${(space) => set({ space })} />`}
      <${Conditions} model=${model} values=${values} set=${set} />
      <${Options} options=${model.walk.options} values=${options} onValues=${setOptions} />
      <div class="row"><button class="main">Walk</button></div><${JobState} job=${job} cancel=${cancel} /></form>
    <section class="card" aria-label="Result">${frames.length > 0 && html`<h2>Walk</h2>
      <${Frames} key=${job.id} label="Frame" urls=${frames.map((name) => result(job, name))} names=${frames.map((_, number) => `${number} of ${frames.length - 1}`)} />`}
      <${Command} text=${job?.command} /></section></div>`;
}

function Search({ checkpoint }) {
  const [values, setValues] = useState({ index: "", prompt: "", seed: "", num: 20 }), [picture, setPicture] = useState(null);
  const [job, start, cancel] = useJob();
  const set = (some) => setValues((old) => ({ ...old, ...some }));
  const submit = (event) => {
    event.preventDefault();
    const { index, num, prompt, seed } = values;
    const query = picture ? { picture: picture.id } : prompt ? { prompt } : { seed: Number(seed || 0), checkpoint };
    start("/api/search", { index, num, ...query });
  };
  return html`<div class="columns"><form class="card" onSubmit=${submit}>
      <${Field} label="Index: a path below the folder" required value=${values.index} onValue=${(index) => set({ index })} />
      <${Picture} label="Search for a picture" value=${picture} onValue=${setPicture} />
      ${!picture && html`<${Field} label="or for a text" value=${values.prompt} onValue=${(prompt) => set({ prompt })} />
        <${Field} label="or for the model's sample of a seed" inputmode="numeric" value=${values.seed} onValue=${(seed) => set({ seed })} />`}
      ${picture && html`<button type="button" onClick=${() => setPicture(null)}>Remove the picture</button>`}
      <${Field} label="Results" type="number" min="1" max="100" value=${values.num} onValue=${(num) => set({ num: Number(num) })} />
      <div class="row"><button class="main">Search</button></div><${JobState} job=${job} cancel=${cancel} /></form>
    <section class="card" aria-label="Result">${job?.state === "done" && html`<h2>Most similar</h2>
      ${job.files.includes("found.png") && html`<img src=${result(job, "found.png")} alt="Contact sheet of the results" />`}
      <div class="wide"><table><tbody>${job.answer.map((row) => html`<tr><td>${row.name}</td><td>${row.similarity}</td></tr>`)}</tbody></table></div>`}
      <${Command} text=${job?.command} /></section></div>`;
}
