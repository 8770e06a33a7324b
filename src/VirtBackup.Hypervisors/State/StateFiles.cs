using System.Security.Cryptography;
using Microsoft.Win32.SafeHandles;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Images;

namespace VirtBackup.Hypervisors.State;

/// <summary>The stored running state while it is being restored: files in a private folder beside the images, which go when the machine has it.</summary>
internal sealed class StateFiles(ImageTools tools, RestoreRequest request, string folder) : IAsyncDisposable
{
    private const string Prefix = ".vb-";
    private const int Digits = 8;

    // Each machine has its own: the images of several may lie in one folder. Short, for the socket in it.
    private readonly string place = PlaceIn(folder, request.Machine);
    private readonly List<ImageWriter> files = [];

    /// <summary>Where the folder of a machine is, beside its images.</summary>
    public static string PlaceIn(string folder, Id16 machine) => Path.Combine(folder, Prefix + DigestOf(machine));

    /// <summary>Whether a folder beside images is one of these.</summary>
    public static bool IsPlace(string name) => name.StartsWith(Prefix, StringComparison.Ordinal) && name.Length == Prefix.Length + Digits && name[Prefix.Length..].All(char.IsAsciiHexDigitLower);

    private static string DigestOf(Id16 machine)
    {
        Span<byte> bytes = stackalloc byte[Id16.Size];
        machine.Write(bytes);
        return Convert.ToHexStringLower(SHA256.HashData(bytes))[..Digits];
    }

    /// <summary>The private folder, for what else it takes.</summary>
    public string Place => place;

    /// <summary>Memory, then devices.</summary>
    public IReadOnlyList<IRestoredDisk> Disks => files;

    /// <summary>Makes empty files. Those of a restore that was killed go.</summary>
    public async Task CreateAsync(CancellationToken cancellationToken)
    {
        var state = request.State!;
        try
        {
            Remove();
            PrivateFolder.Create(place);
            foreach (var disk in new[] { state.Memory, state.Devices })
            {
                files.Add(await ImageWriter.CreateAsync(disk, Path.Combine(place, disk.Name), Path.Combine(place, "unused"), DiskPreallocation.None, tools, cancellationToken));
            }
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The running state cannot be kept in {place} until the machine has it: {failure.Message}", failure);
        }
    }

    /// <summary>All is written.</summary>
    /// <exception cref="FaultException">It is not the state of a machine.</exception>
    public async Task FinishAsync(CancellationToken cancellationToken)
    {
        foreach (var file in files)
        {
            await file.FinishAsync(cancellationToken);
        }
        using var devices = Open(files[1].Path);
        _ = await ReadDocumentAsync(devices, cancellationToken);
    }

    /// <summary>What the state is made of, for whoever gives it to a hypervisor.</summary>
    /// <returns>The caller disposes it.</returns>
    public async Task<OpenState> OpenAsync(CancellationToken cancellationToken)
    {
        var devices = Open(files[1].Path);
        try
        {
            var (document, length) = await ReadDocumentAsync(devices, cancellationToken);
            devices.Position = length;
            return new OpenState(document, File.OpenHandle(files[0].Path, options: FileOptions.Asynchronous), devices);
        }
        catch
        {
            await devices.DisposeAsync();
            throw;
        }
    }

    private static FileStream Open(string path) => new(path, FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize: 128 << 10, useAsync: true);

    private async Task<(StateDocument Document, int Length)> ReadDocumentAsync(FileStream devices, CancellationToken cancellationToken)
    {
        var start = new byte[Math.Min(devices.Length, StateDocument.BytesMax)];
        await devices.ReadExactlyAsync(start, cancellationToken);
        var document = StateDocument.Read(start, out var length);
        return document.Layout.LengthBytes == request.State!.Memory.LengthBytes ? (document, length)
            : throw FaultException.Corrupt($"The stored device state is about {document.Layout.LengthBytes} bytes of memory, and the recovery point holds {request.State.Memory.LengthBytes}.");
    }

    private void Remove()
    {
        if (Directory.Exists(place))
        {
            Directory.Delete(place, recursive: true);
        }
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var file in files)
        {
            await file.DisposeAsync();
        }
        try
        {
            Remove();
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            // In a private folder, and removed by the next restore of the machine.
        }
    }
}

/// <summary>A stored running state, opened.</summary>
/// <param name="Devices">At what stood behind the memory.</param>
internal sealed record OpenState(StateDocument Document, SafeFileHandle Memory, FileStream Devices) : IAsyncDisposable
{
    /// <summary>Writes what the hypervisor loads.</summary>
    public Task WriteAsync(Stream target, CancellationToken cancellationToken) => RebuiltStream.WriteAsync(Document, Memory, Devices, target, cancellationToken);

    public async ValueTask DisposeAsync()
    {
        Memory.Dispose();
        await Devices.DisposeAsync();
    }
}

/// <summary>A restore whose machine goes on from its running state.</summary>
internal sealed class ResumingRestore(IRestore restore, StateFiles state) : IRestore
{
    public IReadOnlyList<IRestoredDisk> Disks => restore.Disks;

    public IReadOnlyList<IRestoredDisk> State => state.Disks;

    /// <summary>Makes the files of the state, if there is one, beside a restore that has begun. On failure nothing of it is left.</summary>
    public static async Task<IRestore> AddAsync(IRestore restore, StateFiles? state, CancellationToken cancellationToken)
    {
        if (state is null)
        {
            return restore;
        }
        var resuming = new ResumingRestore(restore, state);
        try
        {
            await state.CreateAsync(cancellationToken);
            return resuming;
        }
        catch
        {
            await resuming.DisposeAsync();
            throw;
        }
    }

    public async ValueTask<RestoredMachine> CompleteAsync(CancellationToken cancellationToken)
    {
        await state.FinishAsync(cancellationToken);
        return await restore.CompleteAsync(cancellationToken);
    }

    public async ValueTask DisposeAsync()
    {
        await state.DisposeAsync();
        await restore.DisposeAsync();
    }
}
