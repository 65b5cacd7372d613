export function render({ model }) {
  const box = document.createElement("div")
  const line = document.createElement("div")
  const message = document.createElement("span")
  const bar = document.createElement("progress")
  const error = document.createElement("div")
  const notices = document.createElement("ul")
  box.className = "status"
  line.className = "line"
  message.setAttribute("role", "status")
  bar.max = 1
  bar.setAttribute("aria-label", "Progress")
  error.className = "error"
  error.setAttribute("role", "alert")
  notices.className = "notices"
  line.append(bar, message)
  box.append(line, error, notices)

  const draw = () => {
    const { busy, fraction } = model
    if (fraction === null) bar.removeAttribute("value")
    else bar.value = fraction
    line.ariaBusy = String(busy)
    message.textContent = message.title = model.message
    error.textContent = model.error
    error.hidden = model.error === ""
    notices.hidden = model.notices.length === 0
    notices.replaceChildren(
      ...model.notices.map((text) => {
        const item = document.createElement("li")
        item.textContent = text
        return item
      }),
    )
  }
  for (const name of ["message", "busy", "fraction", "error", "notices"]) model.on(name, draw)
  draw()
  return box
}
