export function render({ model }) {
  const row = document.createElement("div")
  row.className = "choices"
  const controls = new Map()

  const build = ({ name, label, options, help }) => {
    const box = document.createElement("label")
    const title = document.createElement("span")
    const control = document.createElement(options ? "select" : "input")
    title.className = "name"
    title.textContent = label
    control.setAttribute("aria-label", label)
    if (help) {
      title.title = help
      control.setAttribute("aria-description", help)
    }
    if (options) {
      control.addEventListener("change", () => {
        const field = model.fields.find((other) => other.name === name)
        model.send_msg({ name, value: field.options[control.selectedIndex][0] })
      })
    } else {
      control.type = "checkbox"
      control.setAttribute("role", "switch")
      control.addEventListener("change", () => model.send_msg({ name, value: control.checked }))
    }
    box.className = options ? "select" : "switch"
    box.append(title, control)
    row.append(box)
    return control
  }
  const draw = () => {
    for (const field of model.fields) {
      if (!controls.has(field.name)) controls.set(field.name, build(field))
      const control = controls.get(field.name)
      control.disabled = field.disabled
      if (field.options) {
        const names = field.options.map(([, text]) => text)
        const same = names.length === control.length && names.every((text, i) => control.options[i].text === text)
        if (!same) control.replaceChildren(...names.map((text) => new Option(text)))
        control.selectedIndex = field.options.findIndex(([value]) => value === field.value)
      } else {
        control.checked = field.value
      }
    }
  }
  model.on("fields", draw)
  draw()
  return row
}
