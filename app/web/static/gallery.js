// The gallery: boxes by class and by score. It changes what is seen, never what is stored. Events are heard on the
// document, since the page is filled anew while photos are worked on.
(() => {
  const apply = () => {
    const form = document.getElementById("shown");
    if (!form) return;
    const least = Number(form.querySelector("#threshold").value);
    const labels = new Set([...form.querySelectorAll("[name=label]:checked")].map((box) => box.value));
    form.querySelector("#least").textContent = least.toFixed(2);
    let seen = 0;
    for (const each of document.querySelectorAll("[data-score]")) {
      const isOn = labels.has(each.dataset.label) && Number(each.dataset.score) >= least;
      each.classList.toggle("is-off", !isOn);
      if (isOn && each.tagName === "g") seen += 1;
    }
    form.querySelector("#visible").textContent = `${seen} ${seen === 1 ? "box is" : "boxes are"} shown.`;
  };
  for (const name of ["input", "change"]) document.addEventListener(name, (event) => { if (event.target.closest("#shown")) apply(); });
})();
