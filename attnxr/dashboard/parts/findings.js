const legible = (text) => globalThis.attnxrLegible?.(text) ?? text

const make = (tag, className) => {
  const node = document.createElement(tag)
  node.className = className
  return node
}

export function render({ model }) {
  const box = make("div", "findings")
  const list = make("dl", "")
  box.append(list)

  const build = () => {
    const line = make("div", "finding")
    const text = make("dd", "text")
    text.setAttribute("aria-live", "polite")
    line.append(make("dt", "name"), text, make("dd", "buttons"))
    return line
  }
  // What stays the same is left as it is: a button that is pressed keeps the focus.
  const drawButtons = (place, wanted) => {
    const there = Array.from(place.children, (button) => button.dataset.name)
    if (JSON.stringify(there) === JSON.stringify(wanted.map(([name]) => name))) return
    place.replaceChildren(
      ...wanted.map(([name, words]) => {
        const button = make("button", "more")
        button.type = "button"
        button.textContent = words
        button.dataset.name = name
        return button
      }),
    )
  }
  const draw = () => {
    const findings = JSON.parse(model.findings)
    list.setAttribute("aria-label", model.caption)
    if (list.children.length !== findings.length) list.replaceChildren(...findings.map(build))
    findings.forEach((finding, i) => {
      const [name, text, buttons] = list.children[i].children
      name.textContent = finding.name
      name.title = finding.help
      text.ariaBusy = String(finding.busy)
      text.classList.toggle("busy", finding.busy)
      text.textContent = legible(finding.text).replaceAll("(p ", "(p\u00a0") // "p" and its number stay together
      text.title = finding.text
      drawButtons(buttons, finding.buttons)
    })
  }
  box.addEventListener("click", (event) => {
    const name = event.target.closest("button")?.dataset.name
    if (name) model.send_msg({ name })
  })
  model.on("findings", draw)
  draw()
  return box
}
