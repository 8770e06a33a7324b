using System.Net.Sockets;
using System.Xml;
using Azure;
using VirtBackup.CloudStores.Requests;
using VirtBackup.Core;

namespace VirtBackup.CloudStores.Azure;

/// <summary>What the SDK's exceptions mean.</summary>
internal static class AzureFailures
{
    /// <summary>Only this says that a blob is missing: a proxy that is set up wrong answers 404, too.</summary>
    public const string MissingBlob = "BlobNotFound";

    /// <summary>An immutability policy keeps the blob.</summary>
    public const string KeptBlob = "BlobImmutableDueToPolicy";

    public static CloudRequestException Translate(Exception failure, string container) => failure switch
    {
        CloudRequestException known => known,
        RequestFailedException answer => Translate(answer, container),
        AggregateException several when several.InnerException is { } first => Translate(first, container),
        HttpRequestException or IOException or SocketException or XmlException or TimeoutException => new CloudRequestException(FailureKind.Passing, failure.GetBaseException().Message, failure),
        _ => CloudRequestException.Final(FaultReason.Unspecified, failure.Message, "", failure),
    };

    private static CloudRequestException Translate(RequestFailedException answer, string container)
    {
        var code = string.IsNullOrEmpty(answer.ErrorCode) ? "no error code" : answer.ErrorCode;
        var detail = $"HTTP {answer.Status}, {code}";
        return (answer.Status, code) switch
        {
            (412, _) or (409, "BlobAlreadyExists") => new CloudRequestException(FailureKind.ConditionFailed, detail, answer),
            (416, _) => new CloudRequestException(FailureKind.BehindEnd, detail, answer),
            (404, "ContainerNotFound") => CloudRequestException.Final(FaultReason.Unavailable, $"there is no container '{container}'", "Make it, or correct the address.", answer),
            (404, MissingBlob) => new CloudRequestException(FailureKind.NotFound, detail, answer),
            (404, _) => new CloudRequestException(FailureKind.Passing, $"{detail}: something answers in the store's place, which does not say that the object is missing", answer),
            (503, _) or (429, _) => new CloudRequestException(FailureKind.Throttled, detail, answer),
            (409, KeptBlob) => CloudRequestException.Final(FaultReason.RetentionLocked, detail, "A policy of the container keeps it: wait until it has ended.", answer),
            // Azurite's words for a body that changed on its way.
            (400, "InvalidOperation") when answer.Message.Contains("MD5", StringComparison.OrdinalIgnoreCase) => new CloudRequestException(FailureKind.Passing, detail, answer),
            (409, _) or (408, _) or (400, "Md5Mismatch" or "Crc64Mismatch" or "InvalidMd5") or (0, _) or ( >= 500, _) =>
                new CloudRequestException(FailureKind.Passing, answer.Status == 0 ? answer.GetBaseException().Message : detail, answer),
            (401 or 403, _) => CloudRequestException.Final(
                FaultReason.Denied, detail, "Check the credentials and what they permit: reading, creating, deleting and listing blobs, and writing their metadata. Check this host's clock, too.", answer),
            ( >= 200 and < 300, _) => new CloudRequestException(FailureKind.Passing, $"an answer that cannot be read ({detail})", answer),
            _ => CloudRequestException.Final(FaultReason.FailedPrecondition, detail, "", answer),
        };
    }
}
