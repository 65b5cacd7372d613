// Two things that Panel (1.9, 1.10) loses between a notebook and a view. BokehJS may arrive after this script, or never.
(function keepWhatIsEarly(tries) {
  const Manager = window.Bokeh?.Models?.get("panel.models.comm_manager.CommManager")
  if (Manager == null) {
    if (tries > 0) setTimeout(keepWhatIsEarly, 10, tries - 1)
    return
  }
  const handle = Manager.prototype.msg_handler
  if (handle.keepsWhatIsEarly) return

  // What the notebook sends to a view that is still being drawn, such as what a later cell changes, is thrown away. Here
  // it waits until the view is there.
  function pass(manager, tries) {
    if (!(manager.plot_id in window.Bokeh.index) && tries > 0) {
      setTimeout(pass, 50, manager, tries - 1)
    } else {
      for (const message of manager.early.splice(0)) handle.call(manager, message)
    }
  }

  Manager.prototype.msg_handler = function (message) {
    this.early ??= []
    this.early.push(message)
    if (this.early.length === 1) pass(this, 6000)
  }
  Manager.prototype.msg_handler.keepsWhatIsEarly = true

  // What a visitor does is held back until the kernel has answered what was sent before. Where no answer comes, as to
  // what was sent before the kernel knew of the view, it is held until he does something else, even when the time to
  // wait is over. Here it is sent then.
  const changed = Manager.prototype._document_changed
  Manager.prototype._document_changed = function (event) {
    changed.call(this, event)
    clearTimeout(this.overdue)
    this.overdue = setTimeout(() => {
      if (this._event_buffer.length > 0) this.on_ack({ metadata: {} })
    }, this._timeout - Date.now())
  }
})(6000)
