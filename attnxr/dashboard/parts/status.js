export function render({ model }) {
  const box = document.createElement("div")
  const line = document.createElement("div")
  const message = document.createElement("span")
  const bar = document.createElement("progress")
  const cancel = document.createElement("button")
  const error = document.createElement("div")
  const notices = document.createElement("ul")
  const check = document.createElement("details")
  const figures = document.createElement("summary")
  const help = document.createElement("div")
  box.className = "status"
  line.className = "line"
  message.className = "message"
  message.setAttribute("role", "status")
  bar.max = 1
  bar.setAttribute("aria-label", "Progress")
  cancel.type = "button"
  cancel.className = "cancel"
  cancel.textContent = "Cancel"
  error.className = "error"
  error.setAttribute("role", "alert")
  notices.className = "notices"
  check.className = "fidelity"
  help.className = "help"
  help.tabIndex = -1 // so that a click on it takes the focus nowhere else
  check.append(figures, help)
  line.append(bar, message, cancel, check)
  box.append(line, error, notices)

  const make = (tag, text, kind = "") => {
    const element = document.createElement(tag)
    element.textContent = text
    element.className = kind
    return element
  }
  const draw = () => {
    const { busy, fraction } = model
    if (fraction === null) bar.removeAttribute("value")
    else bar.value = fraction
    line.ariaBusy = String(busy)
    cancel.hidden = !model.cancellable
    message.textContent = message.title = model.message
    error.textContent = model.error
    error.hidden = model.error === ""
    notices.hidden = model.notices.length === 0
    notices.replaceChildren(...model.notices.map((text) => make("li", text)))
  }
  const drawCheck = () => {
    const { passed, lead, figures: found = [], help: paragraphs = [] } = model.check
    check.hidden = found.length === 0
    check.classList.toggle("failed", passed === false)
    const parts = found.map(([text, within]) => make("span", text, within ? "figure" : "figure beyond"))
    const outcome = [make("span", passed ? "✓" : "✗", "sign"), " ", make("span", lead, "lead"), " "]
    figures.replaceChildren(...(check.hidden ? [] : outcome))
    parts.forEach((part, i) => figures.append(i > 0 ? " · " : "", part))
    help.replaceChildren(...paragraphs.map((text) => make("p", text)))
  }
  check.addEventListener("keydown", (event) => {
    if (event.key === "Escape") check.open = false
  })
  check.addEventListener("focusout", (event) => {
    if (!check.contains(event.relatedTarget)) check.open = false
  })
  cancel.addEventListener("click", () => model.send_msg({ cancel: true }))
  model.on("check", drawCheck)
  drawCheck()
  for (const name of ["message", "busy", "cancellable", "fraction", "error", "notices"]) model.on(name, draw)
  draw()
  return box
}
