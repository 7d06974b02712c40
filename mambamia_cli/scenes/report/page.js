"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent);
  let thumbs = [];  // they stand behind the script, so that a long page answers before they have come
  const scenes = data.scenes.map(([start, end, peak], i) => ({ start, end, peak, i }));
  const buttons = [...document.querySelectorAll(".scene")];
  const video = $("video"), curve = $("curve"), said = $("said");
  const number = (button) => Number(button.id.slice(1));  // index into `scenes`
  const length = data.end - data.start || 1, long = data.end >= 3600;
  // A player that is asked for the exact time of a frame may show the one before: times are rounded on the way.
  const INSIDE = 0.002;
  let seen = scenes;             // the scenes that the threshold leaves
  let chosen = 0, current = -1;  // of `scenes`: the one that keys act on, the one at the position
  let position = data.start, usable = video.hasAttribute("src"), wanted = null;

  // ---- words -------------------------------------------------------------------------------------------------------
  const two = (n) => String(n).padStart(2, "0");
  function clock(t) {
    const s = Math.round(t), m = Math.floor(s / 60) % 60;
    return long ? `${Math.floor(s / 3600)}:${two(m)}:${two(s % 60)}` : `${Math.floor(s / 60)}:${two(s % 60)}`;
  }
  function timecode(t) {
    const ms = Math.round(t * 1000), code = `${two(Math.floor(ms / 60000) % 60)}:${two(Math.floor(ms / 1000) % 60)}.${String(ms % 1000).padStart(3, "0")}`;
    return long ? `${two(Math.floor(ms / 3600000))}:${code}` : code;
  }
  function span(t) {
    if (t < 60) return `${t.toFixed(1)} s`;
    const s = Math.round(t);
    return s < 3600 ? `${Math.floor(s / 60)} min ${s % 60} s` : `${Math.floor(s / 3600)} h ${Math.floor(s / 60) % 60} min`;
  }

  // ---- the list ----------------------------------------------------------------------------------------------------
  function at(t) {  // the last of `seen` that has begun
    let low = 0, high = seen.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (seen[middle].start <= t) low = middle; else high = middle - 1;
    }
    return seen[low];
  }
  function choose(scene, focus) {
    buttons[chosen].tabIndex = -1;
    chosen = scene.i;
    buttons[chosen].tabIndex = 0;
    if (focus) buttons[chosen].focus({ preventScroll: true });
    buttons[chosen].scrollIntoView({ block: "nearest" });
  }
  function step(by) {
    const place = Math.max(0, seen.findIndex((s) => s.i === chosen));
    choose(seen[Math.min(seen.length - 1, Math.max(0, place + by))], true);
  }
  const lazy = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      picture(target.querySelector("img"), number(target.firstElementChild));
      lazy.unobserve(target);
    }
  }, { rootMargin: "700px" });
  function picture(image, i) {
    if (thumbs[i]) image.src = "data:image/jpeg;base64," + thumbs[i]; else image.removeAttribute("src");
  }
  addEventListener("DOMContentLoaded", () => {
    thumbs = JSON.parse($("thumbs").textContent);
    if (thumbs.length) for (const button of buttons) lazy.observe(button.parentElement);
  });
  addEventListener("beforeprint", () => buttons.forEach((b, i) => picture(b.querySelector("img"), i)));

  // ---- the position ------------------------------------------------------------------------------------------------
  function show(t) {
    position = Math.min(data.end, Math.max(data.start, t));
    $("head").style.left = `${100 * (position - data.start) / length}%`;
    const now = at(position);
    curve.setAttribute("aria-valuenow", position.toFixed(3));
    curve.setAttribute("aria-valuetext", `${clock(position)}, scene ${now.i + 1}`);
    if (now.i === current) return;
    const before = buttons[current];
    if (before) {
      before.removeAttribute("aria-current");
      const box = before.getBoundingClientRect();  // follow the film only where its scene was in view
      if (box.bottom > 0 && box.top < innerHeight && !video.paused) buttons[now.i].scrollIntoView({ block: "nearest" });
    }
    current = now.i;
    buttons[current].setAttribute("aria-current", "true");
    shade(now);
  }
  function shade(scene) {
    const x = (t) => 2000 * (Math.min(data.end, t) - data.start) / length;
    $("here").setAttribute("x", x(scene.start));
    $("here").setAttribute("width", Math.max(1, x(ending(scene)) - x(scene.start)));
  }
  function go(t, play) {
    show(t);
    if (!usable) return;
    wanted = t;
    video.currentTime = Math.max(0, t + data.offset + INSIDE);
    if (play) video.play().catch(() => {});  // a refusal is told by the error event
  }
  function play(scene) {
    choose(scene, true);
    go(scene.start, true);
    said.textContent = `Scene ${scene.i + 1}, ${clock(scene.start)}`;
  }
  function follow() {
    if (wanted !== null && video.seeking) return;
    wanted = null;
    if (usable && video.readyState > 0) show(video.currentTime - data.offset);
  }
  function frame() {
    if (video.paused || video.ended) return;
    follow();
    requestAnimationFrame(frame);
  }
  video.addEventListener("play", () => requestAnimationFrame(frame));
  for (const name of ["seeked", "timeupdate", "pause"]) video.addEventListener(name, follow);

  // ---- a video that does not play ----------------------------------------------------------------------------------
  function trouble(text) {
    usable = false;
    $("reason").textContent = text;
    $("trouble").hidden = false;
  }
  function refused() {
    const coded = data.codec ? ` (${data.codec})` : "";
    trouble(`This browser cannot play ${data.name}: it is no longer where it was when this page was made, or it is coded in a way${coded} that the browser does not know. The scenes can still be looked through.`);
  }
  video.addEventListener("error", refused);
  video.addEventListener("loadedmetadata", () => {
    if (video.videoWidth === 0) return refused();  // only the sound can be played
    usable = true;
    $("trouble").hidden = true;
  });
  $("screen").hidden = !usable;
  if (!usable) trouble(`This page was made without the video ${data.name}. The scenes can still be looked through.`);
  else if (video.error) refused();
  let address = null;
  $("file").addEventListener("change", ({ target }) => {
    if (!target.files.length) return;
    if (address) URL.revokeObjectURL(address);
    address = URL.createObjectURL(target.files[0]);
    video.src = address;
    usable = true;
    $("screen").hidden = false;
    video.currentTime = position + data.offset + INSIDE;
  });

  // ---- the curve ---------------------------------------------------------------------------------------------------
  function ending(scene) {
    const next = seen[seen.indexOf(scene) + 1];
    return next ? next.start : scenes[scenes.length - 1].end;
  }
  function marks() {
    $("marks").setAttribute("d", seen.slice(1).map((s) => `M${(2000 * (s.start - data.start) / length).toFixed(1)} 0v8`).join(""));
    $("marks").classList.toggle("many", seen.length > 400);
  }
  function axis() {
    const room = Math.max(2, Math.floor(curve.clientWidth / 78));
    const step = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400].find((s) => length / s <= room) || 172800;
    const labels = [];
    for (let t = Math.ceil(data.start / step) * step; t <= data.end; t += step) {
      const label = document.createElement("span"), share = (t - data.start) / length;
      label.textContent = clock(t);
      label.style.left = `${100 * share}%`;
      if (share < 0.03) label.className = "first"; else if (share > 0.97) label.className = "last";
      labels.push(label);
    }
    $("axis").replaceChildren(...labels);
  }
  const timeAt = (event) => {
    const box = curve.getBoundingClientRect();
    return data.start + Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * length;
  };
  curve.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    try { curve.setPointerCapture(event.pointerId); } catch { /* a pointer that is gone already */ }
    go(timeAt(event), false);
    choose(at(position), false);
  });
  curve.addEventListener("pointermove", (event) => {
    const t = timeAt(event), scene = at(t), box = curve.getBoundingClientRect(), tip = $("tip");
    if (event.buttons & 1 && curve.hasPointerCapture(event.pointerId)) { go(t, false); choose(scene, false); }
    $("tip-text").textContent = `${clock(t)} · scene ${scene.i + 1}`;
    if (tip.dataset.scene !== String(scene.i)) { picture($("tip-thumb"), scene.i); tip.dataset.scene = scene.i; }
    tip.hidden = false;
    const half = tip.offsetWidth / 2;
    tip.style.left = `${Math.min(box.width - half, Math.max(half, event.clientX - box.left))}px`;
  });
  curve.addEventListener("pointerleave", () => { $("tip").hidden = true; });
  new ResizeObserver(axis).observe(curve);

  // ---- the threshold -----------------------------------------------------------------------------------------------
  // A higher threshold leaves those scenes whose score reaches it. It cannot be lowered here, for what it would add has no
  // picture; for the same reason a cut that one of these silenced (see marking.choose) does not come back when that goes.
  const slider = $("threshold"), highest = Math.max(...scenes.map((s) => s.peak));
  if (data.threshold !== null && data.threshold !== undefined && highest > data.threshold && scenes.length > 2) {
    slider.min = data.threshold; slider.max = highest; slider.step = "any"; slider.value = data.threshold;
    slider.addEventListener("input", () => requestAnimationFrame(filter));
    $("filter").hidden = false;
    filter();
  }
  function filter() {
    const least = Number(slider.value), all = least <= data.threshold;
    seen = scenes.filter((s) => all || s.i === 0 || s.peak >= least);
    const kept = new Set(seen.map((s) => s.i));
    scenes.forEach((s) => { const row = buttons[s.i].parentElement; if (row.hidden === kept.has(s.i)) row.hidden = !kept.has(s.i); });
    seen.forEach((s, k) => {
      const end = k + 1 < seen.length ? seen[k + 1].start : scenes[scenes.length - 1].end;
      const text = span(end - s.start), box = buttons[s.i].querySelector(".length");
      if (box.textContent !== text) {
        buttons[s.i].setAttribute("aria-label", buttons[s.i].getAttribute("aria-label").replace(`lasts ${box.textContent}`, `lasts ${text}`));
        box.textContent = text;
        buttons[s.i].querySelector(".end span").textContent = timecode(end);
      }
    });
    $("filtered").textContent = `${least.toFixed(2)}: ${seen.length} of ${scenes.length} scenes`;
    if (!kept.has(chosen)) choose(at(scenes[chosen].start), false);
    marks();
    if (current >= 0) { const now = current; current = -1; buttons[now].removeAttribute("aria-current"); show(position); }
  }

  // ---- keys --------------------------------------------------------------------------------------------------------
  $("scenes").addEventListener("click", (event) => {
    const button = event.target.closest(".scene");
    if (button) play(scenes[number(button)]);
  });
  $("scenes").addEventListener("focusin", ({ target }) => {
    if (target.matches(".scene")) { buttons[chosen].tabIndex = -1; chosen = number(target); target.tabIndex = 0; }
  });
  addEventListener("keydown", (event) => {
    const { key, target } = event;
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const typed = target.matches("input"), native = typed || target === video;
    const page = Math.max(1, Math.floor(innerHeight / 82) - 1);
    const moves = { j: 1, k: -1, ...(native ? {} : { ArrowDown: 1, ArrowUp: -1, Home: -1e9, End: 1e9, PageDown: page, PageUp: -page }) };
    const drags = { ArrowLeft: -5, ArrowRight: 5, ...(target === curve ? { ArrowDown: -5, ArrowUp: 5, PageDown: -60, PageUp: 60, Home: -1e9, End: 1e9 } : {}) };
    if (!native && key in drags) go(Math.min(data.end, Math.max(data.start, position + drags[key])), false);
    else if (key in moves) step(moves[key]);
    else if (native) return;
    else if (key === "Enter") play(scenes[chosen]);
    else if (key === " ") { if (usable) { if (video.paused) video.play().catch(() => {}); else video.pause(); } }
    else return;
    event.preventDefault();
  });
  // A button is pressed when the space bar is let go: here that is a pause, not a click.
  addEventListener("keyup", (event) => { if (event.key === " " && event.target.matches(".scene")) event.preventDefault(); });

  marks();
  axis();
  show(data.start);
})();
