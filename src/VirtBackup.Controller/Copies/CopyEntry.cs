using VirtBackup.Catalog.Copies;
using VirtBackup.Core;

namespace VirtBackup.Controller.Copies;

/// <summary>What is known of a copy store since the controller's start. Safe for concurrent use.</summary>
internal sealed class CopyEntry(CopyStoreRow row) : IDisposable
{
    private volatile OpenCopy? _open;
    private volatile string _problem = "It is being opened.";
    private volatile string _runProblem = "";

    public CopyStoreRow Row => row;

    /// <summary>Null: it is not open now.</summary>
    public OpenCopy? Open
    {
        get => _open;
        set => _open = value;
    }

    /// <summary>Why it is not open, or why the newest run failed; empty: neither.</summary>
    public string Problem => _open is null ? _problem : _runProblem;

    /// <summary>Of the newest run; empty: none yet.</summary>
    public Id16 JobId { get; set; }

    public bool IsRunning { get; set; }

    /// <summary>Cancelled when the store is removed.</summary>
    public CancellationTokenSource Removal { get; } = new();

    /// <summary>One run at a time.</summary>
    public Gate Running { get; } = new();

    /// <summary>Ends when nothing is done with the store any more.</summary>
    public Task Following { get; set; } = Task.CompletedTask;

    public void NoteClosed(string problem) => _problem = problem;

    public void NoteRun(string problem) => _runProblem = problem;

    public void Dispose()
    {
        Removal.Dispose();
        Running.Dispose();
    }
}
