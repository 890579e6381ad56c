// The upload page: files that are dropped or chosen go up one by one, each with its thumbnail and its progress. Without
// this script the form sends what its field holds, and the page that comes back lists it.
(() => {
  const AT_ONCE = 3;
  const TRIES = 3;
  const LARGEST_THUMBNAIL = 30 * 1000 * 1000; // bytes; a larger photo takes the browser too long to decode
  const SHOWN = 500;
  const byId = (id) => document.getElementById(id);
  const waiting = [];
  const counts = { all: 0, stored: 0, refused: 0, failed: 0 };
  let active = 0;
  let start = null; // what is to be done once everything is up

  const size = (bytes) => bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`;

  const summarise = () => {
    const left = waiting.length + active;
    const parts = [`${counts.stored} of ${counts.all} files uploaded`];
    if (counts.refused) parts.push(`${counts.refused} refused`);
    if (counts.failed) parts.push(`${counts.failed} failed`);
    byId("summary").textContent = counts.all ? `${parts.join(", ")}${left ? " …" : "."}` : "";
    byId("go").textContent = start ? "Starting when all are up …" : "Start";
  };

  const row = (file, name) => {
    const item = document.createElement("li");
    const picture = document.createElement("canvas");
    picture.width = picture.height = 88;
    const label = document.createElement("span");
    label.className = "name";
    label.textContent = label.title = name;
    const what = document.createElement("span");
    what.className = "what";
    what.textContent = size(file.size);
    const bar = document.createElement("progress");
    bar.max = 100;
    bar.value = 0;
    bar.setAttribute("aria-label", `Upload of ${name}`);
    item.append(picture, label, what, bar);
    if (counts.all <= SHOWN) byId("list").append(item);
    return { item, picture, what, bar };
  };

  const thumbnail = async (file, canvas) => {
    if (!file.type.startsWith("image/") || file.size > LARGEST_THUMBNAIL) return;
    try {
      const image = await createImageBitmap(file, { resizeHeight: 88, resizeQuality: "low" });
      const side = Math.min(image.width, image.height);
      canvas.getContext("2d").drawImage(image, (image.width - side) / 2, (image.height - side) / 2, side, side, 0, 0, 88, 88);
      image.close();
    } catch { /* what the browser cannot show may be read all the same */ }
  };

  const send = (job) => new Promise((resolve) => {
    const form = byId("files");
    const body = new FormData();
    body.append("submission", form.elements.submission.value);
    body.append("file[0]", job.file, job.name);
    const request = new XMLHttpRequest();
    request.open("POST", form.action);
    request.setRequestHeader("Accept", "application/json");
    request.upload.onprogress = (event) => { if (event.lengthComputable) job.row.bar.value = 100 * event.loaded / event.total; };
    request.onerror = request.ontimeout = () => resolve({ again: true, reason: "the service cannot be reached" });
    request.onload = () => {
      let answer = {};
      try { answer = JSON.parse(request.responseText); } catch { /* said below */ }
      if (request.status === 200) return resolve({ stored: true });
      const reason = answer.files?.[0]?.error ?? answer.error ?? `HTTP ${request.status}`;
      resolve({ again: request.status >= 500 || request.status === 429, reason });
    };
    request.send(body);
  });

  const upload = async (job) => {
    let result = {};
    for (let attempt = 1; attempt <= TRIES; attempt += 1) {
      result = await send(job);
      if (!result.again) break;
      await new Promise((resolve) => setTimeout(resolve, 1000 * attempt));
    }
    const kind = result.stored ? "stored" : result.again ? "failed" : "refused";
    counts[kind] += 1;
    job.row.item.className = kind;
    job.row.bar.remove();
    job.row.what.textContent = result.stored ? "uploaded" : result.reason;
    if (!result.stored && !job.row.item.isConnected) byId("list").append(job.row.item);
  };

  const work = async () => {
    while (waiting.length && active < AT_ONCE) {
      active += 1;
      upload(waiting.shift()).finally(() => { active -= 1; summarise(); work(); });
    }
    if (!active && !waiting.length && start) { const begin = start; start = null; begin(); }
  };

  const add = (files) => {
    for (const { file, name } of files) {
      counts.all += 1;
      const job = { file, name, row: row(file, name) };
      if (counts.all <= SHOWN) thumbnail(file, job.row.picture);
      const most = Number(byId("files").dataset.most);
      if (file.size > most) {
        counts.refused += 1;
        job.row.item.className = "refused";
        job.row.bar.remove();
        job.row.what.textContent = `larger than ${size(most)}`;
      } else waiting.push(job);
    }
    summarise();
    work();
  };

  const chosen = (picker) => [...picker.files].map((file) => ({ file, name: file.webkitRelativePath || file.name }));

  // A folder that is dropped is walked through; the browser hands out a hundred entries at a time.
  const walk = async (entry, path, found) => {
    if (entry.name.startsWith(".") || entry.name === "__MACOSX") return;
    if (entry.isFile) {
      const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
      found.push({ file, name: path + entry.name });
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (!some.length) return;
      for (const each of some) await walk(each, `${path}${entry.name}/`, found);
    }
  };

  const dropped = async (transfer) => {
    const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    if (!entries.length) return [...transfer.files].map((file) => ({ file, name: file.name }));
    const found = [];
    for (const entry of entries) await walk(entry, "", found);
    return found;
  };

  document.addEventListener("DOMContentLoaded", () => {
    const drop = byId("drop");
    const picker = byId("picker");
    const folder = byId("folder-picker");
    byId("send").hidden = true; // what is chosen goes up at once
    byId("drop-text").textContent = "Drop photos, a folder or a zip here, or choose them";
    byId("folder").hidden = false;
    byId("folder").addEventListener("click", () => folder.click());
    for (const each of [picker, folder]) each.addEventListener("change", () => { add(chosen(each)); each.value = ""; });
    byId("files").addEventListener("submit", (event) => event.preventDefault());
    for (const name of ["dragenter", "dragover"]) drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("is-over"); });
    for (const name of ["dragleave", "drop"]) drop.addEventListener(name, () => drop.classList.remove("is-over"));
    drop.addEventListener("drop", async (event) => { event.preventDefault(); add(await dropped(event.dataTransfer)); });
    // A file that misses the zone would else take the place of the page.
    for (const name of ["dragover", "drop"]) window.addEventListener(name, (event) => event.preventDefault());
    byId("start").addEventListener("submit", (event) => {
      if (!active && !waiting.length) return;
      event.preventDefault();
      start = () => byId("start").submit();
      summarise();
    });
    window.addEventListener("beforeunload", (event) => { if (active || waiting.length) event.preventDefault(); });
  });
})();
