// Pieces that several panels use.
import { html, useEffect, useRef, useState } from "/static/lib/preact-htm.js";
import { upload } from "/static/api.js";

let count = 0;
export function useId() {
  const id = useRef(null);
  id.current ??= `field-${(count += 1)}`;
  return id.current;
}

export function Field({ label, kind, choices, value, onValue, ...others }) {
  const id = useId();
  const change = (event) => onValue(event.target.value);
  let input = html`<input id=${id} value=${value} onInput=${change} ...${others} />`;
  if (kind === "text") input = html`<textarea id=${id} rows="2" value=${value} onInput=${change} ...${others}></textarea>`;
  if (choices) {
    input = html`<select id=${id} value=${value} onChange=${change} ...${others}>
      ${choices.map((choice) => html`<option value=${choice} selected=${choice === value}>${choice || "(default)"}</option>`)}
    </select>`;
  }
  return html`<div><label for=${id}>${label}</label>${input}</div>`;
}

/** Fields for the options that a model declares; only values that differ from the default are sent. */
export function Options({ options, values, onValues }) {
  if (!options?.length) return null;
  return html`<fieldset><legend>Options of the model</legend>
    ${options.map(({ name, kind, choices, default: usual }) => html`<${Field} key=${name} label=${name.replaceAll("_", " ")}
      choices=${kind === "bool" ? ["true", "false"] : kind === "choice" ? choices : null}
      inputmode=${kind === "int" ? "numeric" : kind === "float" ? "decimal" : null}
      value=${values[name] ?? usual}
      onValue=${(value) => {
        const { [name]: _, ...rest } = values;
        onValues(value === usual ? rest : { ...rest, [name]: value });
      }} />`)}
  </fieldset>`;
}

/** Tabs that arrow keys move between. Those that cannot be chosen keep their places: nothing moves below a pointer. */
export function Tabs({ label, names, enabled = names, chosen, onChosen }) {
  const list = useRef();
  const move = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = enabled[(enabled.indexOf(chosen) + step + enabled.length) % enabled.length];
    onChosen(next);
    list.current.querySelector(`[data-name="${next}"]`).focus();
  };
  return html`<div role="tablist" aria-label=${label} ref=${list} onKeyDown=${move}>
    ${names.map((name) => html`<button role="tab" data-name=${name} aria-selected=${name === chosen}
      disabled=${!enabled.includes(name)} tabindex=${name === chosen ? 0 : -1} onClick=${() => onChosen(name)}>${name}</button>`)}
  </div>`;
}

export function Command({ text }) {
  if (!text) return null;
  return html`<div><h3>The same on the command line</h3><pre class="wrap"><code>${text}</code></pre>
    <button onClick=${() => navigator.clipboard?.writeText(text)}>Copy</button></div>`;
}

export function JobState({ job, cancel }) {
  if (!job) return null;
  const busy = job.state === "waiting" || job.state === "working";
  const words = { waiting: "Waiting.", working: "Working.", done: "Done.", cancelled: "Cancelled." };
  return html`<div role="status">
    ${job.state === "failed" ? html`<p class="error">${job.error}</p>` : html`<p class="dim">${words[job.state]}
      ${job.total > 1 && busy ? ` ${job.done} of ${job.total}` : ""}</p>`}
    ${busy && html`<progress aria-label="Progress" ...${job.total > 1 ? { value: job.done, max: job.total } : {}} />
      <button type="button" onClick=${cancel}>Cancel</button>`}
  </div>`;
}

/** A picture to upload, by choosing or dropping; gives {id, width, height, url}. */
export function Picture({ label, value, onValue }) {
  const id = useId();
  const [error, setError] = useState("");
  const [over, setOver] = useState(false);
  const take = async (file) => {
    if (!file) return;
    setError("");
    try {
      onValue({ ...(await upload(file)), url: URL.createObjectURL(file), name: file.name });
    } catch (problem) {
      setError(problem.message);
    }
  };
  return html`<div class=${over ? "drop over" : "drop"}
      onDragOver=${(event) => { event.preventDefault(); setOver(true); }} onDragLeave=${() => setOver(false)}
      onDrop=${(event) => { event.preventDefault(); setOver(false); take(event.dataTransfer.files[0]); }}>
    <label for=${id}>${label}</label>
    <input id=${id} type="file" accept="image/png,image/jpeg,image/webp" onChange=${(event) => take(event.target.files[0])} />
    ${value && html`<p class="dim">${value.width} × ${value.height} pixels</p>`}
    ${error && html`<p class="error" role="alert">${error}</p>`}
  </div>`;
}

/** Two pictures on top of each other, and a slider between them. */
export function BeforeAfter({ before, after }) {
  const box = useRef(), id = useId();
  return html`<div><div class="compare" ref=${box}>
      <img class="pixels" src=${before} alt="Before" /><img class="pixels" src=${after} alt="After" />
    </div>
    <label for=${id}>Before and after</label>
    <input id=${id} class="between" type="range" min="0" max="100" value="50"
      onInput=${(event) => box.current.style.setProperty("--cut", `${event.target.value}%`)} /></div>`;
}

/** A frame of several, chosen by a slider. */
export function Frames({ label, urls, names, follow }) {
  const [place, setPlace] = useState(follow ? urls.length - 1 : 0);
  const id = useId(), last = useRef(urls.length);
  useEffect(() => {
    if (follow && place >= last.current - 1) setPlace(urls.length - 1);
    last.current = urls.length;
  }, [urls.length]);
  if (!urls.length) return null;
  const shown = Math.min(place, urls.length - 1);
  return html`<div><img class="pixels shown" src=${urls[shown]} alt=${names[shown]} />
    <label for=${id}>${label}: <output>${names[shown]}</output></label>
    <input id=${id} type="range" min="0" max=${urls.length - 1} value=${shown} aria-valuetext=${names[shown]}
      onInput=${(event) => setPlace(Number(event.target.value))} /></div>`;
}
