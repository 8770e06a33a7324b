using System.Net;
using System.Net.Sockets;
using System.Xml;
using Amazon.Runtime;
using Amazon.S3;
using VirtBackup.CloudStores.Requests;
using VirtBackup.Core;

namespace VirtBackup.CloudStores.S3;

/// <summary>What the SDK's exceptions mean.</summary>
internal static class S3Failures
{
    private const string MissingObject = "NoSuchKey";

    /// <summary>Only the store's own word says that an object is missing: a proxy that is set up wrong answers 404, too.</summary>
    public static bool IsMissingObject(AmazonS3Exception failure) => failure.StatusCode == HttpStatusCode.NotFound && failure.ErrorCode == MissingObject;

    public static CloudRequestException Translate(Exception failure, string bucket) => failure switch
    {
        CloudRequestException known => known,
        AmazonUnmarshallingException => new CloudRequestException(FailureKind.Passing, "an answer that cannot be read", failure),
        AmazonS3Exception answer => Translate(answer, bucket),
        AmazonClientException when failure.Message.Contains("credential", StringComparison.OrdinalIgnoreCase) => CloudRequestException.Final(
            FaultReason.Denied, "no credentials were found", "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile, for the user who runs this.", failure),
        AmazonClientException or AmazonServiceException or HttpRequestException or IOException or SocketException or WebException or XmlException or TimeoutException =>
            new CloudRequestException(FailureKind.Passing, failure.GetBaseException().Message, failure),
        _ => CloudRequestException.Final(FaultReason.Unspecified, failure.Message, "", failure),
    };

    private static CloudRequestException Translate(AmazonS3Exception answer, string bucket)
    {
        var code = string.IsNullOrEmpty(answer.ErrorCode) ? "no error code" : answer.ErrorCode;
        var detail = $"HTTP {(int)answer.StatusCode}, {code}";
        return ((int)answer.StatusCode, code) switch
        {
            (412, _) => new CloudRequestException(FailureKind.ConditionFailed, detail, answer),
            (416, _) => new CloudRequestException(FailureKind.BehindEnd, detail, answer),
            (404, "NoSuchBucket") => CloudRequestException.Final(FaultReason.Unavailable, $"there is no bucket '{bucket}'", "Make it, or correct the address.", answer),
            (404, "NoSuchUpload") => CloudRequestException.Final(FaultReason.Unavailable, "its parts are gone", "Try again; look for a life-cycle rule that removes unfinished uploads too early.", answer),
            (404, MissingObject) => new CloudRequestException(FailureKind.NotFound, detail, answer),
            (404, _) => new CloudRequestException(FailureKind.Passing, $"{detail}: something answers in the store's place, which does not say that the object is missing", answer),
            (503, _) or (429, _) or (_, "SlowDown" or "RequestLimitExceeded" or "Throttling") => new CloudRequestException(FailureKind.Throttled, detail, answer),
            (409, _) or (408, _) or (400, "RequestTimeout" or "XAmzContentSHA256Mismatch" or "BadDigest" or "IncompleteBody") => new CloudRequestException(FailureKind.Passing, detail, answer),
            (501, _) => CloudRequestException.Final(FaultReason.Unsupported, detail, "The store does not know this request: it cannot hold a repository.", answer),
            ( >= 500 or 0, _) or ( >= 200 and < 300, _) => new CloudRequestException(FailureKind.Passing, answer.StatusCode == 0 ? answer.GetBaseException().Message : detail, answer),
            (403, "QuotaExceeded") => CloudRequestException.Final(FaultReason.DeviceFull, detail, "Raise the quota of the bucket or its user, or free space there.", answer),
            (403, "RequestTimeTooSkewed") => CloudRequestException.Final(FaultReason.FailedPrecondition, detail, "Set this host's clock.", answer),
            (401 or 403, _) => CloudRequestException.Final(
                FaultReason.Denied, detail, "Check the credentials and the policy of the bucket: s3:GetObject, PutObject, DeleteObject, AbortMultipartUpload, ListBucket and ListBucketMultipartUploads are needed.", answer),
            (301 or 307, _) or (400, "AuthorizationHeaderMalformed") => CloudRequestException.Final(FaultReason.InvalidArgument, detail, "Correct region= or endpoint= in the address.", answer),
            _ => CloudRequestException.Final(FaultReason.FailedPrecondition, $"{detail} ({answer.Message})", "", answer),
        };
    }
}
