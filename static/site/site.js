// Names for what Django's admin leaves without one that can be read aloud.
window.addEventListener("load", () => {
  // Only an image may have the name that these have.
  for (const mark of document.querySelectorAll("span.help-tooltip[aria-label]")) {
    mark.setAttribute("role", "img");
  }
  // One legend stands before two fields.
  /** @type {NodeListOf<HTMLInputElement>} */
  const fields = document.querySelectorAll(".vDateField, .vTimeField");
  for (const field of fields) {
    if (field.labels.length || field.ariaLabel) continue;
    const legend = field.closest("fieldset")?.querySelector("legend")?.textContent ?? "";
    const kind = field.classList.contains("vDateField") ? "date" : "time";
    field.ariaLabel = `${legend.trim().replace(/:$/, "")} ${kind}`.trim();
  }
});
