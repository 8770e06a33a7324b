using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Images;

/// <summary>A small file that is restored beside disks, in the place of another one or as a new one.</summary>
/// <param name="IsSecret">Nobody but owner and group may read it, whatever the rights of the one it replaces.</param>
internal sealed record ContentFile(string Path, ReadOnlyMemory<byte> Bytes, bool IsSecret)
{
    private const UnixFileMode Others = UnixFileMode.OtherRead | UnixFileMode.OtherWrite | UnixFileMode.OtherExecute;
    private static readonly TimeSpan Timeout = TimeSpan.FromMinutes(1);

    /// <summary>Writes it under another name (<see cref="ReplacementJournal.NewPath"/>), durably, with the owner and rights of the one it is to replace, or the owner of its folder.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: it cannot be written.</exception>
    public async Task PrepareAsync(ProcessRunner processes, CancellationToken cancellationToken)
    {
        var folder = System.IO.Path.GetDirectoryName(Path)!;
        var whole = ReplacementJournal.NewPath(Path);
        Write(() =>
        {
            PrivateFolder.Create(folder);
            DurableFile.WritePrivate(whole, Bytes.Span);
        });
        if (OperatingSystem.IsWindows())
        {
            return;
        }
        if (File.Exists(Path))
        {
            await FileOwner.CopyAsync(Path, whole, processes, cancellationToken);
            if (IsSecret)
            {
                File.SetUnixFileMode(whole, File.GetUnixFileMode(whole) & ~Others);
            }
            return;
        }
        await processes.RequireAsync("chown", [$"--reference={folder}", whole], Timeout, cancellationToken);
    }

    /// <summary>Puts it into its place, as a whole or not at all, durably.</summary>
    public async Task PlaceAsync(ProcessRunner processes, CancellationToken cancellationToken)
    {
        await PrepareAsync(processes, cancellationToken);
        Write(() =>
        {
            File.Move(ReplacementJournal.NewPath(Path), Path, overwrite: true);
            DurableFolder.Flush(System.IO.Path.GetDirectoryName(Path)!);
        });
    }

    private void Write(Action write)
    {
        try
        {
            write();
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"{Path} cannot be written: {failure.Message}", failure);
        }
    }

    public override string ToString() => Path;
}
