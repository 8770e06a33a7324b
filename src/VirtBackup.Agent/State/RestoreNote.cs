namespace VirtBackup.Agent.State;

/// <summary>Notes that a restore writes to a folder, until it is disposed: after the restore has cleaned up.</summary>
internal readonly struct RestoreNote : IDisposable
{
    private readonly IRestoreNotes? _notes;
    private readonly string _folder;

    /// <param name="notes">Null: nothing is noted.</param>
    /// <param name="folder">Empty: the restore makes no folder.</param>
    public RestoreNote(IRestoreNotes? notes, string folder)
    {
        (_notes, _folder) = (folder.Length > 0 ? notes : null, folder);
        _notes?.Add(folder);
    }

    public void Dispose() => _notes?.Remove(_folder);
}
